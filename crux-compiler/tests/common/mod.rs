//! The fixtures: every `tests/diagnostics/NAME.yaml`, or every folder there with several files, and
//! every file of `tests/accepted`.

use std::fs;
use std::path::{Path, PathBuf};

use crux_compiler::source::{File, Files};

/// A folder below `tests`.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Name and files of each fixture of a folder, by name.
pub fn fixtures(name: &str) -> Vec<(String, Files)> {
    let mut all = Vec::new();
    for path in entries(&folder(name)) {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            all.push((name, Files::new(entries(&path).iter().map(|path| file(path)).collect())));
        } else if path.extension().is_some_and(|extension| extension != "stderr") {
            all.push((name, Files::new(vec![file(&path)])));
        }
    }
    assert!(!all.is_empty(), "no fixtures in {name}");
    all
}

/// The pipelines that ship with the project, as one folder.
#[allow(dead_code, reason = "not every test crate reads them")]
pub fn shipped() -> Files {
    Files::new(
        entries(&folder("../../pipelines"))
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
            .map(|path| file(path))
            .collect(),
    )
}

pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

fn file(path: &Path) -> File {
    let name = path.file_name().expect("a name").to_string_lossy();
    File {
        path: format!("pipelines/{name}"),
        text: fs::read_to_string(path).expect("a readable fixture"),
    }
}
