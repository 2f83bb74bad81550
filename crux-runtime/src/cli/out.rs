//! Output of commands. Either stream may be closed or full.

use std::io::{self, Write};

use super::Failure;

/// On standard output, flushed. A reader that has gone away, like `head`, wants no more: that ends
/// the command, and is not a failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure { code: 0, text: String::new() })
        }
        Err(error) => Err(Failure::refused(format!("standard output cannot be written: {error}"))),
    }
}

/// As [`print()`], and ends the line.
pub(crate) fn print_line(text: impl std::fmt::Display) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// On standard error; if that cannot be written, the exit code has to do.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The first line of a long-running process. Written by a thread, so that a reader that does not
/// read blocks nothing.
pub(crate) fn announce(line: String) {
    let print = move || {
        let _ = writeln!(io::stdout(), "{line}");
    };
    // Without a thread there is no line; the log says the same.
    let _ = std::thread::Builder::new().name("crux-print".to_owned()).spawn(print);
}

/// Logs the variables that look like settings and are not.
pub(crate) fn mention_passed_over(config: &crate::config::Config) {
    if !config.passed_over.is_empty() {
        let variables = config.passed_over.join(", ");
        tracing::info!(
            variables,
            "ignored environment variables of a Kubernetes Service, which are not settings"
        );
    }
}
