//! What has to be built to be measured: the deployed binary, and a scratch copy of the workspace
//! whose pipelines may be changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::measure::Process;

/// The workspace that this bench was built from.
fn workspace() -> Outcome<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or_else(|| "the bench is in no workspace".into())
}

/// A binary of the workspace in the `dist` profile, built if it is not fresh.
pub fn dist_binary(name: &str) -> Outcome<PathBuf> {
    let folder =
        std::env::current_exe()?.parent().ok_or("the executable is in no directory")?.to_owned();
    let target = folder.parent().ok_or("the executable is in no target directory")?;
    let workspace = workspace()?;
    cargo(workspace, target, &["build", "--profile", "dist", "--locked", "--bin", name])?;
    let binary = target.join("dist").join(name);
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(format!("cargo left no {}", binary.display()).into())
    }
}

/// How long a command of Cargo's took, and the CPU time of all that it started.
#[derive(Debug, Clone, Copy)]
pub struct Built {
    pub taken: Duration,
    pub cpu: Option<Duration>,
}

fn cargo(workspace: &Path, target: &Path, arguments: &[&str]) -> Outcome<Built> {
    let (begun, cpu) = (Instant::now(), Process::own().cpu_of_children());
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", target)
        .arg("--quiet")
        .args(arguments)
        .stdin(Stdio::null());
    let status = command.status()?;
    if !status.success() {
        return Err(format!("cargo {}: {status}", arguments.join(" ")).into());
    }
    let cpu =
        Process::own().cpu_of_children().zip(cpu).and_then(|(now, before)| now.checked_sub(before));
    Ok(Built { taken: begun.elapsed(), cpu })
}

/// A copy of the workspace, with its own target directory that stays from run to run: only the
/// first has to build everything.
pub struct Scratch {
    pub workspace: PathBuf,
    target: PathBuf,
}

impl Scratch {
    /// In `directory`, with the sources as they are now.
    pub fn open(directory: &Path) -> Outcome<Self> {
        let folder = directory.join("crux-bench-builds");
        let scratch = Self { workspace: folder.join("workspace"), target: folder.join("target") };
        copy(workspace()?, &scratch.workspace)?;
        Ok(scratch)
    }

    /// `cargo build` of the deployed binary in the dev profile.
    pub fn build(&self) -> Outcome<Built> {
        cargo(&self.workspace, &self.target, &["build", "--locked", "--bin", "crux"])
    }
}

/// Folders that are not sources.
const NOT_COPIED: [&str; 2] = ["target", "node_modules"];

/// Copies what is new or different, and takes away what is not there any more; what is the same
/// keeps its time, so that Cargo sees no change in it.
fn copy(from: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir_all(to)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_hidden = name.to_string_lossy().starts_with('.');
        if is_hidden || NOT_COPIED.iter().any(|not| name == *not) {
            continue;
        }
        let (source, copied) = (entry.path(), to.join(&name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&source, &copied)?;
        } else if kind.is_file() {
            let content = fs::read(&source)?;
            if fs::read(&copied).ok().as_ref() != Some(&content) {
                fs::write(&copied, content)?;
            }
        }
        names.push(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_brought_up_to_date_and_what_is_the_same_is_left_alone() {
        let (from, to) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let write =
            |name: &str, text: &str| fs::write(from.path().join(name), text).expect("a file");
        fs::create_dir(from.path().join("sub")).expect("a folder");
        write("same", "1");
        write("sub/changed", "1");
        write("gone", "1");
        copy(from.path(), to.path()).expect("copied");
        let time = |name: &str| {
            fs::metadata(to.path().join(name)).and_then(|data| data.modified()).expect("a time")
        };
        let before = time("same");
        write("sub/changed", "2");
        fs::remove_file(from.path().join("gone")).expect("removed");
        copy(from.path(), to.path()).expect("copied");
        assert_eq!(time("same"), before);
        assert_eq!(fs::read_to_string(to.path().join("sub/changed")).expect("a file"), "2");
        assert!(!to.path().join("gone").exists());
    }
}
