//! The subcommands that read pipelines: `check`, `expand`, `graph`, `schema`. They need no server
//! and no build; what they say is the compiler's, this file only prints it. Exit codes: 0 done; 1
//! the pipelines have errors; 2 wrong usage.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use crux_compiler::render::Style;
use crux_compiler::tools::{self, Format};
use crux_runtime::Tool;

pub(crate) const TOOLS: [Tool; 4] = [
    Tool {
        command: || {
            let command =
                Command::new("check").about("Check pipelines without building them").after_help(
                    "Examples:
  crux check
  crux check pipelines --json",
                );
            Check::augment_args(command)
        },
        flags: &["json"],
        run: |matches| run(matches, check),
    },
    Tool {
        command: || {
            let command =
                Command::new("expand").about("Print the Rust that pipelines become").after_help(
                    "Examples:
  crux expand order
  crux expand --dir pipelines",
                );
            Show::augment_args(command)
        },
        flags: &[],
        run: |matches| {
            run(matches, |show: &Show, _| {
                print(tools::expand(&show.dir, show.workflow.as_deref(), style(&io::stderr())))
            })
        },
    },
    Tool {
        command: || {
            let command =
                Command::new("graph").about("Draw a workflow as a Mermaid flowchart").after_help(
                    "Examples:
  crux graph refund",
                );
            Show::augment_args(command)
        },
        flags: &[],
        run: |matches| {
            run(matches, |show: &Show, _| {
                print(tools::graph(&show.dir, show.workflow.as_deref(), style(&io::stderr())))
            })
        },
    },
    Tool {
        command: || {
            Command::new("schema")
                .about("Print the JSON Schema of pipelines, for editors")
                .after_help(
                    "Examples:
  crux schema > schema/pipeline.schema.json",
                )
        },
        // It is JSON.
        flags: &["json"],
        run: |_| print(Ok(tools::schema())),
    },
];

#[derive(Args)]
struct Check {
    /// The folder of pipelines
    #[arg(default_value = "pipelines")]
    dir: PathBuf,
}

#[derive(Args)]
struct Show {
    /// The workflow's name; without it, all of them
    workflow: Option<String>,
    /// The folder of pipelines
    #[arg(long, default_value = "pipelines")]
    dir: PathBuf,
}

fn run<T: FromArgMatches>(
    matches: &ArgMatches,
    work: impl FnOnce(&T, bool) -> ExitCode,
) -> ExitCode {
    match T::from_arg_matches(matches) {
        // `--json` is the whole command line's.
        Ok(args) => {
            work(&args, matches.try_get_one("json").ok().flatten().copied().unwrap_or(false))
        }
        Err(error) => error.exit(),
    }
}

fn check(args: &Check, json: bool) -> ExitCode {
    let format = if json { Format::Json } else { Format::Human(style(&io::stdout())) };
    let checked = tools::check(&args.dir, format);
    show(&checked.text, if checked.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn style(stream: &impl IsTerminal) -> Style {
    if stream.is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        Style::Coloured
    } else {
        Style::Plain
    }
}

/// What was asked for on standard output, or on standard error what is wrong with the pipelines.
fn print(text: Result<String, String>) -> ExitCode {
    match text {
        Ok(text) => show(&text, ExitCode::SUCCESS),
        Err(text) => {
            complain(&text);
            ExitCode::FAILURE
        }
    }
}

/// A reader that has gone away, like `head`, wants no more; that is not a failure.
fn show(text: &str, code: ExitCode) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
        _ => code,
    }
}

/// If that cannot be written either, the exit code has to do.
fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_page_has_an_example() {
        for tool in &TOOLS {
            let mut command = (tool.command)();
            let example = format!("  crux {}", command.get_name());
            assert!(command.render_help().to_string().contains(&example), "{example}");
        }
    }
}
