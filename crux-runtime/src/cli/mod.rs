//! The command line. `serve` is the server; the other commands talk to one that runs, by HTTP and
//! WebSocket, like any other client. Tools that read YAML are not here: the binary that wants them
//! adds them as [`Tool`]s.
//!
//! Exit codes: 0 done; 1 refused, or the workflow did not complete; 2 wrong usage or configuration;
//! 3 no server answers.

mod client;
mod commands;
mod event;
mod health;
mod history;
mod key;
mod out;
mod serve;
mod show;
mod topology;
mod watch;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app::App;
use crate::config::{Config, Sources};

/// A subcommand that the binary adds.
pub struct Tool {
    pub command: fn() -> clap::Command,
    /// Of the flags of the whole command line (`json`, `config`, `server`) those that it honours;
    /// the others are refused.
    pub flags: &'static [&'static str],
    pub run: fn(&clap::ArgMatches) -> ExitCode,
}

/// The failure of a command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl Failure {
    /// The answer was no.
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }

    pub(crate) fn unreachable(text: impl Into<String>) -> Self {
        Self { code: 3, text: text.into() }
    }
}

#[derive(Parser)]
#[command(version, about = "Runs compiled workflows", after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "Without a command: serve.

Exit codes: 0 done; 1 refused, or the workflow did not complete; 2 wrong usage or configuration; 3 no server answers.

Examples:
  crux --help
  crux list";

#[derive(Args)]
pub(crate) struct Common {
    /// The configuration file [default: crux.yaml, else config.yaml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "CRUX_CONFIG")]
    config: Option<PathBuf>,
    /// The server to talk to [default: http:// with server.host and server.port of the
    /// configuration]
    #[arg(long, global = true, value_name = "URL", env = "CRUX_URL")]
    server: Option<String>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Worker(worker::Worker),
    Start(commands::Start),
    Status(commands::Status),
    List(commands::List),
    Watch(watch::Watch),
    Cancel(commands::Cancel),
    Retry(commands::Retry),
    Undo(commands::Undo),
    Fail(commands::Fail),
    Pause(commands::Pause),
    Resume(commands::Resume),
    Restart(commands::Restart),
    Event(event::Event),
    Health(health::Health),
    History(history::History),
    Key(key::Key),
    Config(commands::ShowConfig),
    Topology(topology::Topology),
    Completions(commands::Completions),
}

/// The whole program: reads the command line and does what it says.
pub fn main(app: App) -> ExitCode {
    main_with(app, &[])
}

/// As [`main`], with more subcommands.
pub fn main_with(app: App, tools: &[Tool]) -> ExitCode {
    let crate::app::Package { name, version } = app.package;
    // Once for the process: clap keeps it for as long.
    let version: &'static str =
        format!("{version} ({name}; crux-runtime {})", env!("CARGO_PKG_VERSION")).leak();
    let command = Cli::command().name("crux").version(version);
    let command = tools.iter().fold(command, |command, tool| command.subcommand((tool.command)()));
    let matches = command.clone().get_matches();
    let (name, its) = matches.subcommand().unwrap_or(("serve", &matches));
    let tool = tools.iter().find(|tool| (tool.command)().get_name() == name);
    if let Some(text) =
        unused_flag(name, tool.map_or_else(|| honoured(name), |tool| tool.flags), its)
    {
        out::complain(&format!("error: {text}"));
        return ExitCode::from(2);
    }
    if let Some(tool) = tool {
        return (tool.run)(its);
    }
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match run(cli, app, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            if !text.is_empty() {
                out::complain(&format!("error: {text}"));
            }
            ExitCode::from(code)
        }
    }
}

/// The flags of the whole command line that mean something to a command.
fn honoured(command: &str) -> &'static [&'static str] {
    match command {
        "serve" | "worker" => &["config"],
        "config" | "topology" => &["config", "json"],
        "key" => &["json"],
        "completions" => &[],
        _ => &["config", "json", "server"],
    }
}

/// A flag that would change nothing is a mistake: it is refused, not ignored.
fn unused_flag(command: &str, honoured: &[&str], matches: &clap::ArgMatches) -> Option<String> {
    let is_given =
        |id: &&str| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
    let flag = |text: String| Some(format!("{text}: leave it out"));
    let unused = ["config", "json", "server"].into_iter().filter(|id| !honoured.contains(id));
    match unused.into_iter().find(is_given) {
        Some("json") if command == "serve" || command == "worker" => Some(format!(
            "--json: `crux {command}` prints no answers; for a log in JSON set `log.format: json`"
        )),
        Some("json") => flag(format!("--json: `crux {command}` does not print JSON")),
        Some("server") => flag(format!("--server: `crux {command}` talks to no server")),
        Some(other) => flag(format!("--{other}: `crux {command}` reads no configuration")),
        None if is_given(&"server") && is_given(&"config") => {
            flag("--config: --server says already which server is meant".to_owned())
        }
        None => None,
    }
}

fn run(cli: Cli, app: App, whole: clap::Command) -> Result<(), Failure> {
    let common = cli.common;
    match cli.command.unwrap_or_else(|| Command::Serve(serve::Serve::default())) {
        Command::Serve(serve) => serve.run(app, &common),
        Command::Worker(worker) => worker.run(app, &common),
        Command::Completions(completions) => completions.run(whole),
        Command::Key(key) => key.run(&common),
        Command::Config(show) => show.run(&common),
        Command::Topology(topology) => topology.run(&app, &common),
        Command::Start(start) => client::block_on(start.run(&common)),
        Command::Status(status) => client::block_on(status.run(&common)),
        Command::List(list) => client::block_on(list.run(&common)),
        Command::Watch(watch) => client::block_on(watch.run(&common)),
        Command::Cancel(cancel) => client::block_on(cancel.run(&common)),
        Command::Retry(retry) => client::block_on(retry.run(&common)),
        Command::Undo(undo) => client::block_on(undo.run(&common)),
        Command::Fail(fail) => client::block_on(fail.run(&common)),
        Command::Pause(pause) => client::block_on(pause.run(&common)),
        Command::Resume(resume) => client::block_on(resume.run(&common)),
        Command::Restart(restart) => client::block_on(restart.run(&common)),
        Command::Event(event) => client::block_on(event.run(&common)),
        Command::Health(health) => client::block_on(health.run(&common)),
        Command::History(history) => client::block_on(history.run(&common)),
    }
}

impl Common {
    /// The configuration, overlaid with flags.
    fn load(&self, flags: Vec<(&'static str, &'static str, String)>) -> Result<Config, Failure> {
        crate::config::load(&self.sources(flags)).map_err(|error| Failure::usage(error.to_string()))
    }

    fn sources(&self, flags: Vec<(&'static str, &'static str, String)>) -> Sources {
        Sources {
            file: self.config.clone(),
            directory: PathBuf::from("."),
            environment: std::env::vars_os().filter_map(text).collect(),
            flags,
        }
    }

    /// Where the server is.
    fn url(&self) -> Result<String, Failure> {
        if let Some(url) = &self.server {
            let url = url.trim_end_matches('/');
            let checked = crate::address::http(url);
            return checked
                .map(|_| url.to_owned())
                .map_err(|why| Failure::usage(format!("--server: `{url}`: {why}")));
        }
        let config = self.load(Vec::new())?;
        // An address of all interfaces is reached by the loopback interface.
        let host = match config.server.host.as_str() {
            "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            host => host,
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Ok(format!("http://{host}:{}", config.server.port))
    }
}

/// Variables that are not text are none of ours.
fn text((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_page_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains(&format!("  crux {}", command.get_name())),
                "`{}` has no example",
                command.get_name()
            );
        }
    }
}
