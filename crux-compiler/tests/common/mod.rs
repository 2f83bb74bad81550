//! The fixtures: every `tests/diagnostics/NAME.yaml`, or every folder there with several files, and
//! what must be accepted: every file of `../tests/machines/pipelines`, where it is also compiled and
//! run.
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

/// What the compiler accepts as one folder, each file alone.
pub fn accepted() -> Vec<(String, Files)> {
    fixtures("../../tests/machines/pipelines")
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
        // What YAML itself refuses never becomes a value that a schema could look at. It is read as
        // YAML 1.2, in which `n` is a string.
        let options = serde_saphyr::options! { strict_booleans: true };
        let Ok(value) = serde_saphyr::from_str_with_options::<Value>(&file.text, options) else {
            continue;
        };
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

/// The places of what is between blanks and punctuation.
pub fn words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let inside = c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | '-');
        match (start, inside) {
            (None, true) => start = Some(at),
            (Some(begun), false) => {
                words.push((begun, at));
                start = None;
            }
            _ => {}
        }
    }
    words
}
