//! The fixtures: every `tests/diagnostics/NAME.yaml`, or every folder there with several files, and
//! every file of `tests/accepted`.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use std::sync::LazyLock;

use crux_compiler::diagnostic::Diagnostic;
use crux_compiler::source::{File, Files};
use serde_json::Value;

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
pub fn shipped() -> Files {
    Files::new(
        entries(&folder("../../pipelines"))
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
            .map(|path| file(path))
            .collect(),
    )
}

/// The committed JSON Schema.
pub static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(crux_compiler::schema::TEXT).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
});

/// The schema must accept what the compiler accepts for its shape, or editors would show errors in
/// pipelines that are right. The YAML is read by another parser than the compiler's, as an editor
/// would.
pub fn assert_schema_accepts(files: &Files, diagnostics: &[Diagnostic], name: &str) {
    for (id, file) in files.iter() {
        let shape_is_right = diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.span.file == id)
            .all(|diagnostic| diagnostic.code.0 >= 200);
        // What YAML itself refuses never becomes a value that a schema could look at.
        let Ok(value) = serde_saphyr::from_str::<Value>(&file.text) else { continue };
        if shape_is_right && !SCHEMA.is_valid(&value) {
            let errors: Vec<String> = SCHEMA
                .iter_errors(&value)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            panic!("{name}: the schema refuses it:\n{}\n{}", errors.join("\n"), file.text);
        }
    }
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
