//! Telemetry: the log, and the figures in `metrics`. The log goes to standard error, so that what commands print can be read by programs.

pub(crate) mod metrics;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogFormat};
use crate::wording::hint;

/// Begins to log. The error: the level cannot be read, or somebody logs already.
pub(crate) fn begin(log: &Log) -> Result<(), String> {
    let filter = filter(&log.level).map_err(|text| format!("log.level: {text}"))?;
    // What goes wrong with the broker is told by the bus, once and without the messages' contents; whoever wants more names it.
    let filter = match "lapin=off".parse() {
        Ok(quiet) if !log.level.contains("lapin") => filter.add_directive(quiet),
        _ => filter,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_span_events(FmtSpan::NONE);
    let begun = match log.format {
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(is_terminal).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    begun.map_err(|error| error.to_string())
}

/// A bare word that is no level would be read as a module's name, and hide everything.
fn filter(text: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    for part in &parts {
        let level = part.rsplit_once('=').map_or(*part, |(_, level)| level);
        if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            return Err(format!("there is no level `{level}`{}", hint(level, LEVELS.into_iter())));
        }
    }
    EnvFilter::try_new(parts.join(","))
        .map_err(|error| format!("`{text}` cannot be read: {error}: write `info`, or `info,crux_runtime::engine=debug`"))
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn what_is_no_level_is_refused_and_not_taken_for_a_module() {
        let told = |text: &str| filter(text).map(drop).unwrap_err();
        assert_eq!(told("inof"), "there is no level `inof`; did you mean `info`?");
        assert!(told("info,crux_runtime=lots").starts_with("there is no level `lots`; there are `off`, `error`"));
        assert!(told("").starts_with("there is no level ``"));
        for good in ["info", "WARN", "info,crux_runtime::engine=debug", "off, crux_runtime=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
    }
}
