//! The binary under test as a process: its own folder, a free port, its log in a file.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

use super::{Client, PATIENCE};

/// A running server. Dropped: killed.
pub struct Server {
    binary: PathBuf,
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    url: String,
}

impl Server {
    /// With a configuration file of this text, in its own folder. The port is free unless the
    /// text names one.
    pub fn start(binary: &str, config: &str) -> Self {
        Self::start_with(binary, config, &[])
    }

    pub fn start_with(binary: &str, config: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        std::fs::write(folder.path().join("crux.yaml"), config).expect("its configuration");
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut server =
            Self { binary: binary.into(), folder, environment, child: None, url: String::new() };
        server.restart();
        server
    }

    /// Starts the process again in the same folder, at another port; it must not run.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// With more arguments.
    pub fn restart_with(&mut self, arguments: &[&str]) {
        let log = self.log_file();
        self.restart_logging_to(log.into(), arguments);
    }

    /// With another standard error than the file of [`Self::log`].
    pub fn restart_logging_to(&mut self, log: Stdio, arguments: &[&str]) {
        self.stop_if_running();
        let mut command = self.command();
        let mut child = command
            .arg("serve")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("its output is piped");
        let mut first = String::new();
        BufReader::new(stdout).read_line(&mut first).expect("its output can be read");
        let Some(url) = first.trim().strip_prefix("listening on ") else {
            panic!("the server does not listen: {}", self.log())
        };
        self.url = url.to_owned();
        self.child = Some(child);
    }

    /// The binary, in the server's folder and surroundings.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.folder.path());
        // What is set for the test, such as `CRUX_KILLS`, is no setting of the server.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CRUX_"))
        {
            command.env_remove(name);
        }
        if !self.environment.iter().any(|(name, _)| name == "CRUX_SERVER__PORT") {
            command.env("CRUX_SERVER__PORT", "0");
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command of the binary against this server.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).env("CRUX_URL", &self.url).output().expect("the binary runs")
    }

    pub fn binary(&self) -> &Path {
        &self.binary
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// `http://127.0.0.1:12345`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:12345`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub fn port(&self) -> u16 {
        self.url
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a URL ends with its port")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until the log has a line with all these words: it is written a moment later than
    /// things happen.
    pub async fn logged(&self, words: &[&str]) -> String {
        let find = |log: String| {
            log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        };
        super::eventually(&format!("the log says {words:?}"), || async { find(self.log()) }).await
    }

    fn log_file(&self) -> std::fs::File {
        let path = self.folder.path().join("log");
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("the log can be written")
    }

    /// As a power cut does, as far as the process is concerned.
    pub fn kill(&mut self) {
        self.stop_if_running();
    }

    fn stop_if_running(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the process can be killed");
            child.wait().expect("the process ends");
        }
    }

    /// SIGTERM, without waiting.
    pub fn tell_to_end(&self) {
        self.signal("-TERM");
    }

    /// Suspends or continues the process.
    pub fn pause(&self, pauses: bool) {
        self.signal(if pauses { "-STOP" } else { "-CONT" });
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("the process can be asked") {
                return status;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "the server does not end; its log:\n{}",
                self.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_if_running();
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}", self.log());
        }
    }
}
