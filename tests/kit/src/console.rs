//! What a page shows of a terminal: commands after `$ `, each with its output, run in a shell and
//! compared. Ids and times differ from run to run; an id of the page stands for the id that was
//! there instead, also in later commands.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use regex::Regex;

use super::Server;
use super::fences::Block;

static ID: LazyLock<Regex> =
    LazyLock::new(|| pattern("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"));
static TIME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"));
static PROCESS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\(number \d+\)"));
static TOOK: LazyLock<Regex> = LazyLock::new(|| pattern(r"\btook \d\w*"));
static CLOCK: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d\d:\d\d:\d\d\.\d{3}\b"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

/// A shell in the folder of a server, in which `crux` and `cargo run -q --` are the server's
/// binary.
pub struct Session {
    folder: PathBuf,
    url: String,
    bin: tempfile::TempDir,
    /// Of the page, and what stands for them.
    ids: Vec<(String, String)>,
}

impl Session {
    pub fn of(server: &Server) -> Self {
        let bin = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(server.binary(), bin.path().join("crux")).expect("a link");
        Self {
            folder: server.folder().to_owned(),
            url: server.url().to_owned(),
            bin,
            ids: Vec::new(),
        }
    }

    /// Another program for the shell, by its own name.
    pub fn link(&self, program: &Path) {
        let name = program.file_name().expect("a program");
        std::os::unix::fs::symlink(program, self.bin.path().join(name)).expect("a link");
    }

    /// The server has been started again, at another port.
    pub fn is_now_with(&mut self, server: &Server) {
        server.url().clone_into(&mut self.url);
    }

    /// Runs the commands of a block. Each must succeed, and say what the page says it does.
    pub fn run(&mut self, block: &Block) {
        for command in commands(&block.text) {
            self.expect(&command, &block.place);
        }
    }

    /// Runs a command, which must succeed and say this.
    pub fn expect(&mut self, (command, expected): &(String, String), place: &str) {
        let said = self.say(command, place);
        self.compare(expected, &said, &format!("{place}: $ {command}"));
    }

    /// The output of a command.
    pub fn say(&self, command: &str, place: &str) -> String {
        let command = self
            .ids
            .iter()
            .fold(self.of_page(command), |command, (page, own)| command.replace(page, own));
        let output = self.shell(&command).output().expect("bash runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{place}: $ {command}\n{said}{complaints}");
        said
    }

    /// Of a command whose failure the page shows: what it says on standard error.
    pub fn complaint(&self, command: &str) -> String {
        // So that it does not fail because another program has the port.
        let command = self.of_page(command);
        let output =
            self.shell(&command).env("CRUX_SERVER__PORT", "0").output().expect("bash runs");
        assert!(
            !output.status.success(),
            "$ {command}\nwas to fail: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The command of a page, for this server.
    fn of_page(&self, command: &str) -> String {
        let address = self.url.trim_start_matches("http://");
        command.replace("cargo run -q --", "crux").replace("localhost:8080", address)
    }

    pub fn shell(&self, command: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut bash = Command::new("bash");
        bash.args(["-eu", "-o", "pipefail", "-c", command])
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        bash.env_remove("CRUX_CONFIG")
            .env("CRUX_URL", &self.url)
            .env("PATH", format!("{}:{path}", self.bin.path().display()));
        bash
    }

    /// Fails if the text is another one, but for ids, times and numbers of processes; remembers
    /// which id stands for which.
    pub fn compare(&mut self, expected: &str, said: &str, place: &str) {
        assert!(shape(said) == shape(expected), "{place}\nsays\n{said}\nand not\n{expected}");
        for (page, own) in ID.find_iter(expected).zip(ID.find_iter(said)) {
            self.ids.push((page.as_str().to_owned(), own.as_str().to_owned()));
        }
    }
}

/// The commands of a block with their outputs. A command goes on in the next line after `\`, and
/// inside of quotes.
pub fn commands(text: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((command, output))) if output.is_empty() && is_open(command) => {
                command.push('\n');
                command.push_str(line);
            }
            (None, Some((_, output))) => {
                output.push_str(line);
                output.push('\n');
            }
            (None, None) => panic!("output without a command: {line}"),
        }
    }
    commands
}

fn is_open(command: &str) -> bool {
    command.ends_with('\\') || command.matches('\'').count() % 2 == 1
}

/// The text without what differs from run to run.
pub fn shape(text: &str) -> String {
    let text = ID.replace_all(text, "ID");
    let text = TIME.replace_all(&text, "TIME");
    let text = PROCESS.replace_all(&text, "(number N)");
    let text = CLOCK.replace_all(&text, "CLOCK");
    TOOK.replace_all(&text, "took TIME").into_owned()
}

/// Whether both are ids, or both times.
pub fn is_alike(expected: &str, said: &str) -> bool {
    shape(expected) == shape(said)
}
