//! A server in a separate process, for workloads in which the process matters: its memory, its
//! death, the time until it answers. The bench starts itself for that (`crux-bench serve` is the
//! server of other pipelines), or any other binary that Crux made.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::measure::Process;

/// The first words of the command lines by which the bench starts itself.
pub const SERVE: &str = "serve";
pub const WORKER: &str = "worker";
pub const ECHO: &str = "echo";

/// Without the hint that no service does the remote steps: where they matter, one does.
const LOG: &str = "warn,crux_runtime::bus::http=error";

/// A server that does not answer by then never will.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two questions whether something has happened.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Killed when it is dropped.
pub struct Server {
    child: Child,
    begun: Instant,
    pub address: SocketAddr,
}

impl Server {
    /// The server of the bench's pipelines, on that database.
    pub fn start(store: &Path) -> Outcome<Self> {
        Self::of(&std::env::current_exe()?, store)
    }

    /// Of another binary.
    pub fn of(binary: &Path, store: &Path) -> Outcome<Self> {
        let mut command = Command::new(binary);
        command.args([SERVE, "--port", "0", "--log", LOG, "--store"]).arg(store);
        // A configuration that lies about is none of ours.
        command.current_dir(store.parent().ok_or("the database is in no directory")?);
        Self::spawn(command)
    }

    /// The server of the bench's pipelines, with that configuration, which is written into the
    /// directory.
    pub fn with_config(config: &str, directory: &Path) -> Outcome<Self> {
        let file = directory.join("crux.yaml");
        std::fs::write(&file, config)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([SERVE, "--port", "0", "--log", LOG, "--config"])
            .arg(file)
            .current_dir(directory);
        Self::spawn(command)
    }

    /// The floor: as a server, but all that it does is to give back what it got.
    pub fn echo() -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ECHO);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Outcome<Self> {
        let begun = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        let address = said
            .trim()
            .strip_prefix("listening on http://")
            .and_then(|address| address.parse().ok());
        match address {
            Some(address) => Ok(Self { child, begun, address }),
            None => {
                // What it says of the reason went to standard error.
                let _ = child.kill();
                Err(format!("the server did not begin ({}): {said:?}", child.wait()?).into())
            }
        }
    }

    /// Since the process was started.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    pub fn process(&self) -> Process {
        Process::of(&self.child)
    }

    /// Asks again and again until the answer is yes.
    pub fn until(&self, what: &str, mut yes: impl FnMut(&Self) -> Outcome<bool>) -> Outcome<()> {
        let begun = Instant::now();
        while !yes(self)? {
            if begun.elapsed() > PATIENCE {
                return Err(format!("after {} s still not: {what}", PATIENCE.as_secs()).into());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub fn until_ready(&self) -> Outcome<()> {
        self.until("ready", |server| {
            Ok(server.ask("GET", "/health/ready", "").is_ok_and(|(status, _)| status == 200))
        })
    }

    /// One request on its own connection; status and body.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Outcome<(u16, String)> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) =
            answer.split_once("\r\n\r\n").ok_or("an answer without an end of its head")?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or("an answer without a status")?;
        Ok((status, body.to_owned()))
    }

    /// One of the server's own figures: `instances_unsettled`.
    pub fn metric(&self, name: &str) -> Outcome<u64> {
        let (_, text) = self.ask("GET", "/metrics", "")?;
        let value = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            let key = key.strip_prefix("crux_")?;
            (key.strip_suffix("_total").unwrap_or(key) == name)
                .then(|| value.trim().parse().ok())
                .flatten()
        };
        text.lines()
            .find_map(value)
            .ok_or_else(|| format!("the server has no metric `{name}`").into())
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// A worker of the bench's step structs. Killed when it is dropped.
pub struct Worker(Child);

impl Worker {
    /// With the configuration that a server has in this directory.
    pub fn start(directory: &Path, arguments: &[&str]) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([WORKER, "--log", LOG]).args(arguments).current_dir(directory);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        // What it says of the reason went to standard error.
        let has_begun = said.starts_with("worker ");
        let worker = Self(child);
        if has_begun { Ok(worker) } else { Err("the worker did not begin".into()) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
