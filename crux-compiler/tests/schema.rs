//! The JSON Schema and the compiler agree: what one refuses for its shape, the other refuses too.

mod common;

use common::SCHEMA;
use crux_compiler::codes;
use serde_json::Value;

#[test]
fn the_schema_refuses_what_the_compiler_refuses_for_its_shape() {
    let mut refused = 0;
    for (name, files) in common::fixtures("diagnostics") {
        let outcome = crux_compiler::check(&files);
        common::assert_schema_accepts(&files, &outcome.diagnostics, &name);
        for (id, file) in files.iter() {
            let is_about_shape = outcome
                .diagnostics
                .iter()
                .any(|diagnostic| diagnostic.span.file == id && codes::in_schema(diagnostic.code));
            let Ok(value) = serde_saphyr::from_str::<Value>(&file.text) else { continue };
            if is_about_shape {
                assert!(!SCHEMA.is_valid(&value), "{name}: the schema accepts {}", file.path);
                refused += 1;
            }
        }
    }
    assert!(refused >= 20, "only {refused} fixtures are about shape");
}

#[test]
fn both_accept_what_is_right() {
    for name in ["pipelines", "tests/machines/pipelines"] {
        let files = crux_compiler::folder::read(&common::folder("../..").join(name), name).files;
        let outcome = crux_compiler::check(&files);
        let text = crux_compiler::render::human(
            &files,
            &outcome.diagnostics,
            crux_compiler::render::Style::Plain,
        );
        assert!(!outcome.has_errors(), "{name}:\n{text}");
        for (_, file) in files.iter() {
            assert!(serde_saphyr::from_str::<Value>(&file.text).is_ok(), "{name}: YAML");
        }
        common::assert_schema_accepts(&files, &outcome.diagnostics, name);
    }
}
