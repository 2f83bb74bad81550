//! One page: its blocks, in their order, with a server that they talk to.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::json;
use crate::kit::Server;
use crate::kit::console::{Session, commands, shape};
use crate::kit::fences::{self, Block};

/// Kinds of blocks that other tests try out.
pub const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("README.md", "tour", "tests/tour.rs"),
    ("docs/api.md", "browser", "tests/browser.rs"),
    ("docs/durability.md", "backup", "tests/pages/backup.rs"),
    ("docs/steps.md", "types", "tests/pages/types.rs"),
    ("docs/steps.md", "expanded", "tests/pages/types.rs"),
    ("docs/services.md", "task", "tests/pages/services.rs"),
    ("docs/services.md", "answer", "tests/pages/services.rs"),
    ("docs/services.md", "hook", "tests/pages/services.rs"),
];

pub struct Page {
    path: &'static str,
    server: Server,
    session: Session,
    /// By the last command.
    said: String,
    by_hand: usize,
}

impl Page {
    pub fn of(path: &'static str) -> Self {
        let server = Server::start(env!("CARGO_BIN_EXE_crux"), "");
        let session = Session::of(&server);
        Self { path, server, session, said: String::new(), by_hand: 0 }
    }

    /// With another program that the page's commands call.
    pub fn with_program(self, program: &Path) -> Self {
        self.session.link(program);
        self
    }

    pub fn try_out(mut self, by_hand: usize) {
        for block in fences::of_page(self.path) {
            self.block(&block);
        }
        assert_eq!(self.by_hand, by_hand, "{}: blocks that nothing tries out", self.path);
    }

    fn block(&mut self, block: &Block) {
        let place = &block.place;
        if let Some((.., test)) =
            ELSEWHERE.iter().find(|(page, kind, _)| *page == self.path && *kind == block.kind)
        {
            let text = fs::read_to_string(fences::project().join(test))
                .unwrap_or_else(|error| panic!("{test}: {error}"));
            let name = self.path.rsplit('/').next().expect("a name");
            assert!(text.contains(name), "{place}: {test} does not speak of {name}");
            return;
        }
        match (block.language.as_str(), block.kind.as_str()) {
            (_, "by-hand") => self.by_hand += 1,
            ("bash", "run") => self.said = self.bash(block),
            ("json", "answer") => {
                let shown: Value = serde_json::from_str(&block.text)
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                let said: Value = serde_json::from_str(&self.said)
                    .unwrap_or_else(|error| panic!("{place}: {error}: {}", self.said));
                let difference = json::difference(&shown, &said, "$");
                assert_eq!(difference, None, "{place}: the answer was\n{said:#}");
            }
            ("console", "run") => self.session.run(block),
            ("console", "error") => self.complaints(block),
            ("console", "serve") => self.serve(block),
            ("yaml", "serve") => self.serve_with(block),
            ("json", "message") => self.message(block),
            ("yaml", "config") => drop(self.config(&block.text, place)),
            ("yaml", "settings") => self.settings(block),
            ("sql", "run") => self.sql(block),
            ("text", "table") => self.table(block),
            ("text", "routes") => self.routes(block),
            ("yaml", kind) if kind.starts_with("save ") => {
                fs::write(self.server.folder().join(&kind["save ".len()..]), &block.text)
                    .expect("a file");
            }
            (_, file) if file.contains(['.', '/']) => {
                let text = fs::read_to_string(fences::project().join(file))
                    .unwrap_or_else(|error| panic!("{place}: {file}: {error}"));
                assert!(
                    text.contains(&block.text),
                    "{place}: this is not in {file}:\n{}",
                    block.text
                );
            }
            (language, kind) => panic!(
                "{place}: `{language} {kind}` does not say what tests/pages does with the block"
            ),
        }
    }

    /// What a script says on standard output. Variables that it sets are there for the scripts
    /// after it.
    fn bash(&self, block: &Block) -> String {
        let names =
            block.text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
        let names = names
            .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase()));
        let keep: String = names.map(|name| format!("declare -p {name} >> variables\n")).collect();
        let script = block.text.replace("localhost:8080", self.server.address());
        self.session.say(&format!("touch variables; . ./variables\n{script}\n{keep}"), &block.place)
    }

    fn complaints(&self, block: &Block) {
        for (command, expected) in commands(&block.text) {
            let said = self.session.complaint(&command);
            // The log may come before it.
            let is_shown = shape(&said).ends_with(&shape(&expected));
            assert!(is_shown, "{}: $ {command}\nsays\n{said}\nand not\n{expected}", block.place);
        }
    }

    /// The page's server in the place of ours, but for the port.
    fn serve(&mut self, block: &Block) {
        let [(command, said)] = &commands(&block.text)[..] else {
            panic!("{}: one command", block.place)
        };
        let arguments: Vec<&str> =
            command.strip_prefix("crux serve ").expect("crux serve").split(' ').collect();
        assert_eq!(said, "listening on http://127.0.0.1:8080\n", "{}", block.place);
        let arguments: Vec<&str> = arguments
            .into_iter()
            .map(|argument| if argument == "8080" { "0" } else { argument })
            .collect();
        self.server.restart_with(&arguments);
        self.session.is_now_with(&self.server);
    }

    /// The server with the page's configuration.
    fn serve_with(&mut self, block: &Block) {
        fs::write(self.server.folder().join("crux.yaml"), &block.text).expect("a file");
        self.server.restart();
        self.session.is_now_with(&self.server);
    }

    /// Followers of the instance that the page calls `$ID` get one like this.
    fn message(&self, block: &Block) {
        let shown: Value = serde_json::from_str(&block.text)
            .unwrap_or_else(|error| panic!("{}: {error}", block.place));
        let said = self.session.say(". ./variables; crux watch $ID --json", &block.place);
        let differences: Vec<_> = said
            .lines()
            .map(|line| serde_json::from_str(line).expect("messages are JSON"))
            .filter(|message: &Value| message["type"] == shown["type"])
            .map(|message| json::difference(&shown, &message, "$"))
            .collect();
        assert!(differences.contains(&None), "{}: {differences:?} in\n{said}", block.place);
    }

    /// What is in force with this file.
    fn config(&self, text: &str, place: &str) -> Value {
        fs::write(self.server.folder().join("of_the_page.yaml"), text).expect("a file");
        let said = self.session.say("crux config --json --config of_the_page.yaml", place);
        serde_json::from_str(&said).expect("JSON")
    }

    /// The page has every setting, with the value that it has if nobody sets it.
    fn settings(&self, block: &Block) {
        let shown = self.config(&block.text, &block.place);
        let default = self.config("", &block.place);
        for (section, settings) in default.as_object().expect("sections") {
            // By names that are the user's own.
            if ["services", "config"].contains(&section.as_str()) {
                continue;
            }
            assert!(
                block.text.contains(&format!("{section}:")),
                "{}: `{section}` is not there",
                block.place
            );
            let Some(settings) = settings.as_object() else {
                assert_eq!(
                    &shown[section], settings,
                    "{}: the default of `{section}`",
                    block.place
                );
                continue;
            };
            for (name, value) in settings {
                assert!(
                    block.text.contains(&format!("  {name}:")),
                    "{}: `{section}.{name}` is not there",
                    block.place
                );
                // An empty record is filled in by its user.
                if name != "steps" && value.as_object().is_none_or(|value| !value.is_empty()) {
                    assert_eq!(
                        &shown[section][name], value,
                        "{}: the default of `{section}.{name}`",
                        block.place
                    );
                }
            }
        }
    }

    /// Answered by the store beside the running server; the columns and rows are what was said.
    fn sql(&mut self, block: &Block) {
        // Something to be found.
        let input = r#"{"orderId": "ORD-9", "customerId": "CUST-9", "bookingTime": "2025-08-21T14:25:36Z"}"#;
        let id = self
            .session
            .say(&format!("crux start order --wait 30s --json --input '{input}'"), &block.place);
        let id: Value = serde_json::from_str(&id).expect("JSON");
        let id = id["workflow_id"].as_str().expect("an id").replace('-', "");
        let query = match (block.text.find("x'"), block.text.find("'\n")) {
            (Some(from), Some(to)) if from < to => {
                format!("{}{id}{}", &block.text[..from + 2], &block.text[to..])
            }
            _ => block.text.clone(),
        };
        let store = Connection::open_with_flags(
            self.server.folder().join("crux.db"),
            OpenFlags::SQLITE_OPEN_READ_ONLY,
        )
        .expect("the store");
        let begun = std::time::Instant::now();
        loop {
            let mut statement =
                store.prepare(&query).unwrap_or_else(|error| panic!("{}: {error}", block.place));
            let columns = statement.column_names().collect::<Vec<_>>().join(" ");
            let rows = statement.query_map([], |_| Ok(())).expect("an answer").count();
            // Records follow the journal.
            if rows > 0 {
                self.said = columns;
                return;
            }
            assert!(begun.elapsed() < crate::kit::PATIENCE, "{}: nothing is found", block.place);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    fn table(&self, block: &Block) {
        let head = block.text.lines().nth(1).expect("a head under the line");
        let columns: Vec<&str> =
            head.split('│').map(str::trim).filter(|name| !name.is_empty()).collect();
        assert_eq!(columns.join(" "), self.said, "{}", block.place);
    }

    fn routes(&self, block: &Block) {
        for line in block.text.lines() {
            let (method, path) = line.split_once(' ').expect("a method and a path");
            let path = path.replace("{id}", "0199b0a4-5a3c-7d21-9f0e-3b1d5a7c2e44");
            let command = format!(
                "curl -s -o answer -w '%{{http_code}}' -X {method} http://{}{path}",
                self.server.address()
            );
            let status = self.session.say(&command, &block.place);
            let answer =
                fs::read_to_string(self.server.folder().join("answer")).unwrap_or_default();
            let is_missing = status == "405" || answer.contains("problem:not-found");
            assert!(!is_missing, "{}: {line}: {status} {answer}", block.place);
        }
    }
}
