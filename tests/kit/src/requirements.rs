//! Programs that a test needs and a machine may not have. Such a test is marked
//! `#[ignore = "needs NAME"]`; `cargo xtask test` installs what is missing and runs it. Without the
//! program it fails: no test passes that has not run.

use std::path::PathBuf;
use std::process::Command;

/// The first of these programs that there is.
pub fn program(names: &[&str], package: &str) -> PathBuf {
    let folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    names
        .iter()
        .find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()))
        .unwrap_or_else(|| panic!("{}", missing(names[0], package)))
}

/// A Python that has this module.
pub fn python_with(module: &str, package: &str) -> PathBuf {
    let has_it = |python: &PathBuf| {
        let imported = Command::new(python).args(["-c", &format!("import {module}")]).output();
        imported.is_ok_and(|imported| imported.status.success())
    };
    // Debian's packages are for Debian's own, which need not be the first in the path.
    ["python3", "/usr/bin/python3"]
        .map(PathBuf::from)
        .into_iter()
        .find(has_it)
        .unwrap_or_else(|| panic!("{}", missing(&format!("Python module {module}"), package)))
}

/// What a test says that cannot run.
pub fn missing(what: &str, package: &str) -> String {
    format!(
        "this test needs {what}, which is not installed: `cargo xtask test` does that as root, or \
         `apt-get install {package}`"
    )
}
