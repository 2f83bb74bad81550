//! rustc, called on one file with the libraries that stand beside this test's binary.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

pub struct Rustc {
    libraries: PathBuf,
    runtime: PathBuf,
}

pub struct Output {
    pub success: bool,
    /// What it said, without what differs from one machine to another.
    pub said: String,
}

impl Rustc {
    pub fn new() -> Self {
        let binary = std::env::current_exe().expect("a test is a file");
        let libraries = binary.parent().expect("in a folder").to_owned();
        // There may be others, of other builds; the one that this test was just built with is the newest.
        let runtime = std::fs::read_dir(&libraries)
            .expect("a folder")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_runtime(path))
            .max_by_key(|path| {
                path.metadata()
                    .and_then(|metadata| metadata.modified())
                    .unwrap_or(SystemTime::UNIX_EPOCH)
            });
        Self { libraries, runtime: runtime.expect("the runtime is built") }
    }

    /// Checks a binary; `file` is relative to the package.
    pub fn compile(&self, file: &str) -> Output {
        self.run(Path::new(file), &["--crate-type=bin", "--emit=metadata"])
    }

    /// Builds a library, with code, as a debug build does.
    pub fn library(&self, file: &Path) -> Output {
        self.run(file, &["--crate-type=rlib", "--emit=link,metadata", "-Cdebuginfo=2"])
    }

    fn run(&self, file: &Path, arguments: &[&str]) -> Output {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["--edition=2024", "--color=never"])
            .args(arguments)
            .arg("--out-dir")
            .arg(env!("CARGO_TARGET_TMPDIR"))
            .arg("-L")
            .arg(format!("dependency={}", self.libraries.display()))
            .arg("--extern")
            .arg(format!("crux_runtime={}", self.runtime.display()))
            .arg(file)
            .output()
            .expect("rustc is installed");
        Output {
            success: output.status.success(),
            said: normal(&String::from_utf8_lossy(&output.stderr)),
        }
    }
}

fn is_runtime(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("libcrux_runtime-") && name.ends_with(".rlib")
}

/// What does not depend on where the runtime's source lies: places in it move with every edit, and rustc shows their lines, in a gutter as
/// wide as their numbers, only if it finds the file.
fn normal(said: &str) -> String {
    let mut text = String::new();
    let mut is_in_runtime = false;
    for line in said.lines() {
        let (gutter, rest) = gutter(line);
        // A label of lines that cannot be shown becomes a note.
        if is_in_runtime && (rest.starts_with('|') || rest.starts_with("= note: needs `")) {
            continue;
        }
        is_in_runtime = line.contains("crux-runtime/src/");
        match line
            .find("crux-runtime/src/")
            .filter(|_| rest.starts_with("-->") || rest.starts_with(":::"))
        {
            Some(at) => {
                let file = line[at..].split(':').next().unwrap_or_default();
                text += &format!("{gutter}{} {file}\n", &rest[..3]);
            }
            None => text += &format!("{gutter}{rest}\n"),
        }
    }
    text
}

/// The gutter of a line, with the number in it if there is one, of varying width; and the rest.
fn gutter(line: &str) -> (String, &str) {
    let rest = line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit());
    let number = line[..line.len() - rest.len()].trim();
    match rest {
        _ if rest.starts_with("-->") || rest.starts_with(":::") => ("    ".to_owned(), rest),
        _ if rest.starts_with('|') || rest.starts_with("= ") => (format!("{number:>4} "), rest),
        _ => (String::new(), line),
    }
}
