//! The JSON Schema and the compiler agree: what one refuses for its shape, the other refuses too.
//! The YAML is read here by another parser than the compiler's, as an editor would.

mod common;

use crux_compiler::codes;
use serde_json::Value;

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&crux_compiler::schema::schema()).expect("a schema")
}

#[test]
fn the_schema_refuses_what_the_compiler_refuses_for_its_shape() {
    let validator = validator();
    let mut refused = 0;
    for (name, files) in common::fixtures("diagnostics") {
        let outcome = crux_compiler::check(&files);
        assert!(
            outcome.diagnostics.iter().all(|diagnostic| diagnostic.code != codes::SCHEMA_DISAGREES),
            "{name}"
        );
        for (id, file) in files.iter() {
            let of_file =
                || outcome.diagnostics.iter().filter(|diagnostic| diagnostic.span.file == id);
            // What YAML itself refuses never becomes a value that a schema could look at.
            let Ok(value) = serde_saphyr::from_str::<Value>(&file.text) else { continue };
            if of_file().any(|diagnostic| codes::in_schema(diagnostic.code)) {
                assert!(!validator.is_valid(&value), "{name}: the schema accepts {}", file.path);
                refused += 1;
            } else if of_file().all(|diagnostic| diagnostic.code.0 >= 200) {
                assert_accepted(&validator, &value, &name);
            }
        }
    }
    assert!(refused >= 20, "only {refused} fixtures are about shape");
}

#[test]
fn both_accept_what_is_right() {
    let validator = validator();
    let shipped = [("the shipped pipelines".to_owned(), common::shipped())];
    for (name, files) in common::fixtures("accepted").into_iter().chain(shipped) {
        let outcome = crux_compiler::check(&files);
        let text = crux_compiler::render::human(
            &files,
            &outcome.diagnostics,
            crux_compiler::render::Style::Plain,
        );
        assert!(!outcome.has_errors(), "{name}:\n{text}");
        for (_, file) in files.iter() {
            let value = serde_saphyr::from_str::<Value>(&file.text).expect("YAML");
            assert_accepted(&validator, &value, &name);
        }
    }
}

fn assert_accepted(validator: &jsonschema::Validator, value: &Value, name: &str) {
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: the schema refuses it:\n{}", errors.join("\n"));
}
