//! The Crux server as a separate process, so that it can be killed: this program started once
//! more, as `crux-demo serve`, with a configuration file that says where the services are.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{env, thread};

use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::client::Client;
use crate::place::Place;

/// Set for the child, so that it ends with this process.
const CHILD: &str = "DEMO_CHILD";

/// What the shop's pages use if nobody else does.
const USUAL_PORT: u16 = 8080;
const PORTS_TO_TRY: u32 = 3;

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
    #[error("the server ended immediately ({status}); the end of its log, {}:\n{tail}", log.display())]
    Ended { status: ExitStatus, log: PathBuf, tail: String },
    #[error("the server was not ready after {} s; its log is {}", READY_WITHIN.as_secs(), log.display())]
    NotReady { log: PathBuf },
}

fn io_error(what: impl ToString) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_string();
    move |error| Error::Io { what, error }
}

/// A service and the step type whose tasks it gets.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub step_type: &'static str,
    pub address: SocketAddr,
}

pub struct Server {
    child: Child,
    /// Never written to. Kept here because waiting for a child closes the one that it holds.
    input: Option<ChildStdin>,
    pub port: u16,
    configuration: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Writes the configuration and starts the server; it is ready when this returns.
    pub async fn start(place: &Place, targets: &[Target]) -> Result<Self, Error> {
        let (configuration, log) = (place.configuration(), place.log());
        let mut tries = PORTS_TO_TRY;
        loop {
            let port = free_port().map_err(io_error("no free port"))?;
            fs::write(&configuration, configure(place, port, targets))
                .map_err(io_error(configuration.display()))?;
            File::create(&log).map_err(io_error(log.display()))?;
            let (child, input) = spawn(&configuration, &log)?;
            let mut server =
                Self { child, input, port, configuration: configuration.clone(), log: log.clone() };
            match server.until_ready().await {
                // A port is free only until another process takes it.
                Err(Error::Ended { .. })
                    if tries > 0 && TcpListener::bind(("127.0.0.1", port)).is_err() =>
                {
                    tries -= 1
                }
                ready => return ready.map(|()| server),
            }
        }
    }

    /// The same server again, after it was killed.
    pub async fn start_again(&mut self) -> Result<(), Error> {
        (self.child, self.input) = spawn(&self.configuration, &self.log)?;
        self.until_ready().await
    }

    /// `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`: it gets no chance to put anything in order.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.child.kill().await.map_err(io_error("the server cannot be killed"))
    }

    /// Waits until it ends, by whatever hand.
    pub async fn ended(&mut self) -> Result<ExitStatus, Error> {
        self.child.wait().await.map_err(io_error("the server cannot be waited for"))
    }

    /// Lets it finish what it has begun.
    pub async fn stop(mut self) -> Result<(), Error> {
        // The end of its input is the word to stop; see `end_with_parent`.
        drop(self.input.take());
        match timeout(STOPPED_WITHIN, self.child.wait()).await {
            Ok(ended) => ended.map(drop).map_err(io_error("the server cannot be waited for")),
            Err(_) => self.kill().await,
        }
    }

    async fn until_ready(&mut self) -> Result<(), Error> {
        let client = Client::new(self.port);
        let until = Instant::now() + READY_WITHIN;
        while !client.is_ready().await {
            if let Some(status) =
                self.child.try_wait().map_err(io_error("the server cannot be watched"))?
            {
                return Err(Error::Ended { status, tail: tail(&self.log), log: self.log.clone() });
            }
            if Instant::now() > until {
                return Err(Error::NotReady { log: self.log.clone() });
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

fn spawn(configuration: &Path, log: &Path) -> Result<(Child, Option<ChildStdin>), Error> {
    let program = env::current_exe().map_err(io_error("this program's own path"))?;
    let output = || File::options().append(true).open(log).map_err(io_error(log.display()));
    let mut child = Command::new(program)
        .args(["serve", "--config"])
        .arg(configuration)
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(output()?)
        .stderr(output()?)
        // Ctrl-C in the terminal is for the demo alone.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(io_error("the server cannot be started"))?;
    let input = child.stdin.take();
    Ok((child, input))
}

/// The usual port, or any that is free.
fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", USUAL_PORT))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(listener.local_addr()?.port())
}

/// The configuration file, as a person would write it. JSON texts are YAML too, whatever is in a
/// path.
fn configure(place: &Place, port: u16, targets: &[Target]) -> String {
    let path = serde_json::Value::from(place.database().to_string_lossy());
    let mut text = format!("server:\n  port: {port}\n\nstore:\n  path: {path}\n\nservices:\n");
    for Target { name, step_type, address } in targets {
        // Writing to a String cannot fail.
        let _ = write!(text, "  {name}:\n    url: http://{address}/\n    steps: [{step_type}]\n");
    }
    text
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| error.to_string());
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

/// In the child: when the demo ends, however it ends, its end of our input closes, and we stop as
/// on SIGTERM.
pub fn end_with_parent() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    thread::spawn(|| {
        // Nothing is ever written to it.
        let ended = io::copy(&mut io::stdin().lock(), &mut io::sink());
        if ended.is_err()
            || rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::TERM,
            )
            .is_err()
        {
            std::process::exit(1);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_every_service() {
        let parent = tempfile::tempdir().expect("a folder");
        let place = Place::take(parent.path()).expect("a place");
        let target = Target {
            name: "image",
            step_type: "image_processing",
            address: ([127, 0, 0, 1], 4711).into(),
        };
        let text = configure(&place, 8081, &[target]);
        assert!(text.contains("\n  port: 8081\n"), "{text}");
        assert!(
            text.contains(
                "\n  image:\n    url: http://127.0.0.1:4711/\n    steps: [image_processing]\n"
            ),
            "{text}"
        );
    }
}
