//! Programs that a test needs and a machine may not have: installed as Debian's packages by whoever
//! may, which is root.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// The first of these programs that there is, after an attempt to install the package if there is
/// none. `None`: this user may not install it, and the test has nothing to stand on.
pub fn program(names: &[&str], package: &str) -> Option<PathBuf> {
    or_install(&format!("{names:?}"), package, || {
        let folders: Vec<PathBuf> =
            std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
        names.iter().find_map(|name| {
            folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
        })
    })
}

/// As [`program`]: a Python that has this module.
pub fn python_with(module: &str, package: &str) -> Option<PathBuf> {
    or_install(&format!("Python module {module}"), package, || {
        let has_it = |python: &PathBuf| {
            let imported = Command::new(python).args(["-c", &format!("import {module}")]).output();
            imported.is_ok_and(|imported| imported.status.success())
        };
        // Debian's packages are for Debian's own, which need not be the first in the path.
        ["python3", "/usr/bin/python3"].map(PathBuf::from).into_iter().find(has_it)
    })
}

fn or_install(what: &str, package: &str, find: impl Fn() -> Option<PathBuf>) -> Option<PathBuf> {
    // Two tests that install at once would wait for each other's lock until one gives up.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _turn = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    find().or_else(|| {
        if !may_install() {
            eprintln!("skipped: there is no {what}, and installing the package {package} needs root on a Debian system");
            return None;
        }
        let install = || {
            let mut apt = Command::new("apt-get");
            // Somebody else may be installing: then it waits.
            apt.args(["-o", "DPkg::Lock::Timeout=300", "install", "--yes", "--no-install-recommends", package]);
            apt.env("DEBIAN_FRONTEND", "noninteractive").output()
        };
        let mut installed = install().expect("apt-get runs");
        if !installed.status.success() {
            // Its lists may be old, or missing.
            let _ = Command::new("apt-get").arg("update").output();
            installed = install().expect("apt-get runs");
        }
        assert!(installed.status.success(), "{package} cannot be installed: {}", String::from_utf8_lossy(&installed.stderr));
        Some(find().unwrap_or_else(|| panic!("the package {package} does not bring {what}")))
    })
}

fn may_install() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout == b"0\n")
        && Command::new("apt-get").arg("--version").output().is_ok()
}
