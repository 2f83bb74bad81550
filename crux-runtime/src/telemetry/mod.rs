//! Telemetry: the log, and the figures in `metrics`. The log goes to standard error, so that what commands print can be read by programs.

pub(crate) mod metrics;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogFormat};

/// Begins to log. The error: the level cannot be read, or somebody logs already.
pub(crate) fn begin(log: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| format!("log.level: `{}` is not a level: {error}", log.level))?;
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
