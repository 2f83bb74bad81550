//! Programs that tests need and a machine may not have. A test that needs one is marked
//! `#[ignore = "needs NAME"]`, with a name of this table; a plain `cargo test` then shows it as
//! ignored, with this reason.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Need {
    /// As the tests' `#[ignore = "needs …"]` says it.
    name: &'static str,
    found: fn() -> bool,
    /// Debian's package.
    package: &'static str,
}

const NEEDS: &[Need] = &[
    Need { name: "chromium", found: browser, package: "chromium" },
    Need { name: "curl", found: || program("curl"), package: "curl" },
    Need { name: "faketime", found: || program("faketime"), package: "faketime" },
    Need { name: "go", found: || program("go"), package: "golang-go" },
    Need { name: "node", found: || program("node"), package: "nodejs" },
    Need { name: "npm", found: || program("npm"), package: "npm" },
    Need { name: "python3-redis", found: || python("redis"), package: "python3-redis" },
    Need { name: "python3-venv", found: || python("ensurepip"), package: "python3-venv" },
    Need { name: "rabbitmq-server", found: rabbitmq, package: "rabbitmq-server" },
    Need { name: "redis-server", found: || program("redis-server"), package: "redis-server" },
];

/// What tests that mount a small file system are marked with.
#[cfg(test)]
const MOUNT: &str = "mount";

/// How someone who is not root gets rights to mount, in the tests and for them alone.
const AS_IF_ROOT: &[&str] = &["unshare", "--map-root-user", "--mount"];

/// A machine on which all tests can run.
#[derive(Debug)]
pub struct Ready {
    /// Packages that were missing.
    pub installed: Vec<&'static str>,
    /// What the command that runs the tests begins with.
    pub wrapper: &'static [&'static str],
}

/// Installs what is missing, or says what is.
pub fn provide() -> Result<Ready, String> {
    let missing = || NEEDS.iter().filter(|need| !(need.found)()).collect::<Vec<_>>();
    let installed: Vec<&'static str> = missing().iter().map(|need| need.package).collect();
    let wrapper = if is_root() { &[] } else { AS_IF_ROOT };
    if let [first, rest @ ..] = wrapper
        && !succeeds(Command::new(first).args(rest).arg("true"))
    {
        return Err("some tests mount a small file system, and neither this user nor a user \
                    namespace (`unshare`) may do that: run this as root"
            .to_owned());
    }
    if installed.is_empty() {
        return Ok(Ready { installed, wrapper });
    }
    let packages = installed.join(" ");
    if !(is_root() && program("apt-get")) {
        let names: Vec<_> = missing().iter().map(|need| need.name).collect();
        return Err(format!(
            "some tests need programs that are missing here: {}\n\
             on Debian they are installed by\n  sudo apt-get install {packages}\n\
             `cargo test --workspace` runs all other tests",
            names.join(", ")
        ));
    }
    println!("installing {packages}");
    install(&installed)?;
    match missing().as_slice() {
        [] => Ok(Ready { installed, wrapper }),
        [need, ..] => Err(format!(
            "the package {} is installed, and there is still no {}",
            need.package, need.name
        )),
    }
}

fn install(packages: &[&str]) -> Result<(), String> {
    let apt = |arguments: &[&str]| {
        Command::new("apt-get")
            // Another installation may be running: then it waits.
            .args(["-o", "DPkg::Lock::Timeout=300", "-qq"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Without a run level the packages do not start servers of the machine.
            .env("RUNLEVEL", "1")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    // The lists of packages may be old, or missing.
    if apt(&install) || (apt(&["update"]) && apt(&install)) {
        return Ok(());
    }
    Err(format!("`apt-get install {}` does not work", packages.join(" ")))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n")
}

fn program(name: &str) -> bool {
    folders().iter().any(|folder| folder.join(name).is_file())
}

fn folders() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

fn browser() -> bool {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().any(program)
}

/// Its start script in the path is for root alone; tests start what that one starts.
fn rabbitmq() -> bool {
    Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").is_file()
}

/// Debian's packages are for Debian's own Python, which need not be the first in the path.
fn python(module: &str) -> bool {
    let import = format!("import {module}");
    ["python3", "/usr/bin/python3"]
        .iter()
        .any(|python| succeeds(Command::new(python).args(["-c", &import])))
}

fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            if path.is_dir() && !is_hidden && !path.ends_with("target") {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// `#[ignore]` is for what a machine may not have, and for nothing else.
    #[test]
    fn what_tests_say_they_need_is_in_the_table() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        let mut files = Vec::new();
        sources(project, &mut files);
        let mut needed = BTreeSet::new();
        for path in files.iter().filter(|path| !path.starts_with(project.join("xtask"))) {
            let text = fs::read_to_string(path).expect("a text");
            for line in text.lines().map(str::trim).filter(|line| line.starts_with("#[ignore")) {
                let place = path.display();
                if line == "#[ignore = $why]" {
                    continue;
                }
                let names = line
                    .strip_prefix("#[ignore = \"needs ")
                    .and_then(|rest| rest.strip_suffix("\"]"))
                    .unwrap_or_else(|| panic!("{place}: {line} does not say `needs …`"));
                for name in names.split(" and ") {
                    assert!(
                        name == MOUNT || NEEDS.iter().any(|need| need.name == name),
                        "{place}: nothing provides {name}"
                    );
                    needed.insert(name.to_owned());
                }
            }
        }
        for need in NEEDS.iter().filter(|need| need.name != "curl") {
            assert!(needed.contains(need.name), "no test needs {}", need.name);
        }
    }
}
