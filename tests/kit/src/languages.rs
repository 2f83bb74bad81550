//! Programs in other languages, with their libraries from the ordinary package managers. What was
//! fetched and built is kept in a folder for the next time.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::requirements;

/// The oldest Go that the libraries can do with: 1.22.
const OLDEST_GO: u32 = 22;
const GRPCURL: &str = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3";

/// Runs a command, which must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?}: {said}");
}

/// A Python with the libraries of this file of requirements.
pub fn python(folder: &Path, wanted: &Path) -> PathBuf {
    let python = requirements::program(&["python3"], "python3-venv");
    let inside = folder.join("bin/python");
    if !inside.exists() {
        run(Command::new(python).args(["-m", "venv"]).arg(folder));
    }
    run(Command::new(&inside).args(["-m", "pip", "install", "--quiet", "-r"]).arg(wanted));
    inside
}

/// Node with the libraries of the package in this folder.
pub fn node(folder: &Path) -> PathBuf {
    let node = requirements::program(&["node"], "nodejs");
    let npm = requirements::program(&["npm"], "npm");
    run(Command::new(npm).args(["ci", "--no-audit", "--no-fund"]).current_dir(folder));
    node
}

/// The Go command.
pub fn go() -> PathBuf {
    let go = requirements::program(&["go"], "golang-go");
    let version = Command::new(&go).args(["env", "GOVERSION"]).output().expect("go runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let minor: u32 =
        version.trim().split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0);
    assert!(minor >= OLDEST_GO, "this is {}, and Go 1.{OLDEST_GO} is needed", version.trim());
    go
}

/// A program of Go's registry, `example.com/tool/cmd/tool@v1.2.3`, in the folder.
pub fn go_tool(folder: &Path, package: &str) -> PathBuf {
    let name = package.split('@').next().and_then(|path| path.rsplit('/').next());
    let program = folder.join(name.expect("a package"));
    if !program.exists() {
        run(Command::new(go()).args(["install", package]).env("GOBIN", folder));
    }
    program
}

/// A client of gRPC that asks for everything on the command line.
pub fn grpcurl(folder: &Path) -> PathBuf {
    go_tool(folder, GRPCURL)
}
