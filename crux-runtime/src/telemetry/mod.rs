//! Telemetry: the log, and how long things took. The log goes to standard error, so that what
//! commands print can be read by programs; `lines` keeps it from holding anything up. The metrics
//! are rendered in `ingress::metrics`.

mod lines;
pub(crate) mod times;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use self::lines::{Content, Lines, ToLines};

use crate::suggest::hint;

/// What is logged, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `info`, or by module: `info,crux_runtime::engine=debug`.
    pub level: String,
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

/// The log of this process. There is one standard error, so there is one of these.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// What logs more than its level is worth, unless it is named: a target, the level that it gets,
/// and whether a level below `info` for everything means it too. What goes wrong with the broker is
/// reported by the bus, once and without the messages' contents.
const QUIET: [(&str, &str, bool); 4] = [
    ("lapin", "off", false),
    ("crux::instances", "warn", true),
    ("crux::attempts", "warn", true),
    ("crux::messages", "warn", true),
];
const VERBOSE: [&str; 2] = ["debug", "trace"];

/// How long the end of the process waits for the last lines of its log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Begins to log. The error: the level cannot be read, or the process logs already.
pub(crate) fn begin(log: &Log) -> Result<(), String> {
    let filter = filter(&log.level).map_err(|text| format!("log.level: {text}"))?;
    let lines = Lines::start(std::io::stderr())
        .map_err(|error| format!("no thread for the log: {error}"))?;
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let content = match log.format {
        LogFormat::Json => Content::Json,
        LogFormat::Text if is_terminal => Content::Coloured,
        LogFormat::Text => Content::Plain,
    };
    let to = ToLines { lines: lines.clone(), content };
    // The formatter's own complaints would go to standard error past all this, and panic where that
    // cannot be written.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(to)
        .with_span_events(FmtSpan::NONE)
        .log_internal_errors(false);
    let begun = match log.format {
        LogFormat::Text => builder.with_ansi(is_terminal).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
    begun.map_err(|error| error.to_string())?;
    // An earlier subscriber would have failed above.
    let _ = LINES.set(lines);
    log_panics();
    Ok(())
}

/// The standard library writes panics to standard error itself, and blocks until they are read.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured)
            .then(|| tracing::field::display(&backtrace));
        error!(
            place,
            thread,
            backtrace,
            "panic: {}",
            panic.payload_as_str().unwrap_or("no reason given")
        );
    }));
}

/// Waits, but not for long, until what was logged is written; `false`: this process writes no log.
pub(crate) fn flush() -> bool {
    LINES.get().map(|lines| lines.flush(FLUSH_TIMEOUT)).is_some()
}

/// How many lines of the log could not be written.
pub(crate) fn lost_lines() -> u64 {
    LINES.get().map_or(0, |lines| lines.lost())
}

/// A bare word that is not a level would be read as a module's name, and hide everything.
fn filter(text: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    for part in &parts {
        let level = part.rsplit_once('=').map_or(*part, |(_, level)| level);
        if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            return Err(format!("there is no level `{level}`{}", hint(level, LEVELS.into_iter())));
        }
    }
    let is_verbose =
        parts.iter().any(|part| VERBOSE.iter().any(|level| level.eq_ignore_ascii_case(part)));
    let mut all = parts.join(",");
    for (target, level, is_for_the_curious) in QUIET {
        let is_meant = text.contains(target) || (is_verbose && is_for_the_curious);
        if !is_meant {
            all = format!("{all},{target}={level}");
        }
    }
    EnvFilter::try_new(all).map_err(|error| {
        format!(
            "`{text}` cannot be read: {error}: write `info`, or `info,crux_runtime::engine=debug`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn what_is_no_level_is_refused_and_not_taken_for_a_module() {
        let error = |text: &str| filter(text).map(drop).unwrap_err();
        assert_eq!(error("inof"), "there is no level `inof`; did you mean `info`?");
        assert!(
            error("info,crux_runtime=lots")
                .starts_with("there is no level `lots`; there are `off`, `error`")
        );
        assert!(error("").starts_with("there is no level ``"));
        for good in ["info", "WARN", "info,crux_runtime::engine=debug", "off, crux_runtime=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_happens_all_the_time_is_quiet_until_it_is_named() {
        let all = |text: &str| filter(text).unwrap().to_string();
        for (text, is_on) in [
            ("info", false),
            ("warn,crux_runtime=debug", false),
            ("debug", true),
            ("info,crux::attempts=info", true),
        ] {
            assert_eq!(!all(text).contains("crux::attempts=warn"), is_on, "{text}: {}", all(text));
            assert!(all(text).contains("lapin=off"), "{text}");
        }
    }
}
