//! A package outside of the workspace, built by Cargo as its owner would: without a network, in the
//! target folder of the workspace, so that libraries which are there already are used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::fences;

/// As in the workspace, so that the libraries which it has built fit. `"*"` is meant for those, not
/// for what is developed here.
const PROFILE: &str = r#"
[profile.dev]
debug = "line-tables-only"

[profile.dev.package."*"]
opt-level = 1
debug = false

[profile.dev.package]
anyhow = { opt-level = 0 }
async-trait = { opt-level = 0 }
cc = { opt-level = 0 }
clap_derive = { opt-level = 0 }
itertools = { opt-level = 0 }
pin-project-internal = { opt-level = 0 }
prometheus-client-derive-encode = { opt-level = 0 }
prost-derive = { opt-level = 0 }
serde_derive = { opt-level = 0 }
syn = { opt-level = 0 }
thiserror-impl = { opt-level = 0 }
tokio-macros = { opt-level = 0 }
tracing-attributes = { opt-level = 0 }
zeroize_derive = { opt-level = 0 }
crux-compiler = { opt-level = 0 }
crux-macros = { opt-level = 0 }
crux-runtime = { opt-level = 0 }
"#;

pub struct Package {
    folder: PathBuf,
    name: &'static str,
}

impl Package {
    /// Its folder is always the same: in another one it would be another package to Cargo, and be
    /// kept beside the first forever.
    pub fn in_folder(name: &'static str) -> Self {
        let package = Self { folder: target().join("tmp").join(name), name };
        package.write(".cargo/config.toml", PROFILE);
        let lock = fs::read_to_string(fences::project().join("Cargo.lock"))
            .expect("the workspace has a lock file");
        package.write("Cargo.lock", &lock);
        package
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file that says the same already keeps its time.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.folder.join(file);
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return;
        }
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
        fs::write(path, text).expect("the package can be written");
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Writes the file anew with another word in the place of one that must be there.
    pub fn replace(&self, file: &str, word: &str, other: &str) {
        let text = self.read(file);
        assert!(text.contains(word), "{file} has no `{word}`");
        self.write(file, &text.replace(word, other));
    }

    pub fn rename(&self, file: &str, other: &str) {
        fs::rename(self.folder.join(file), self.folder.join(other)).expect("it can be renamed");
    }

    pub fn delete(&self, file: &str) {
        fs::remove_file(self.folder.join(file)).expect("it can be deleted");
    }

    /// What a file of the folder is that is not among these, is not there.
    pub fn keep_only(&self, folder: &str, files: &[&str]) {
        for entry in fs::read_dir(self.folder.join(folder)).into_iter().flatten().flatten() {
            if !files.iter().any(|file| entry.path().ends_with(file)) {
                fs::remove_file(entry.path()).expect("it can be deleted");
            }
        }
    }

    pub fn cargo(&self, arguments: &[&str]) -> Output {
        let mut cargo = Command::new(std::env::var_os("CARGO").expect("Cargo runs the tests"));
        cargo
            .args(arguments)
            .arg("--offline")
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", target())
            .env("CARGO_TERM_COLOR", "never");
        cargo.output().expect("Cargo runs")
    }

    /// What Cargo says of a build that succeeds.
    pub fn build(&self) -> String {
        let output = self.cargo(&["build", "--verbose"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// What is on the terminal after a build that fails.
    pub fn broken_build(&self) -> String {
        let output = self.cargo(&["build"]);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!output.status.success(), "it was to fail:\n{said}");
        said
    }

    /// The program that its build has made.
    pub fn binary(&self) -> String {
        target().join("debug").join(self.name).display().to_string()
    }
}

/// That of the workspace, where the running test is `debug/deps/NAME`. `binary` names the package's
/// program, which must be none of the workspace's.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a path of this test");
    test.ancestors().nth(3).expect("it is in the target folder").to_owned()
}
