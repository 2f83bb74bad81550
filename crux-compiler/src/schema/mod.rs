//! The JSON Schema of pipelines, for editors. The committed file is the schema; tests make it from
//! the types in `shape` and `step`, and hold it, the file and the parser together. It is no part of
//! a build, which would pay for a schema library in every package with pipelines.

#[cfg(test)]
mod leaf;
#[cfg(test)]
mod patterns;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod step;

/// The schema, in draft 7, which every editor understands.
pub const TEXT: &str = include_str!("../../../schema/pipeline.schema.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use schemars::generate::SchemaSettings;
    use serde_json::Value;

    use super::shape;
    use crate::parse::SHAPES;

    /// The schema of the types.
    fn schema() -> Value {
        let mut schema = SchemaSettings::draft07()
            .into_generator()
            .into_root_schema_for::<shape::Pipeline>()
            .to_value();
        without_null(&mut schema);
        if let Value::Object(schema) = &mut schema {
            schema.insert("title".into(), "Crux pipeline".into());
        }
        schema
    }

    /// As it is committed: indented, with a line break at its end.
    fn text() -> String {
        format!("{:#}\n", schema())
    }

    /// To the generator an optional key may also be null. In a pipeline it is left out.
    fn without_null(schema: &mut Value) {
        match schema {
            Value::Object(object) => {
                let is_null = |value: &Value| value.get("type").is_some_and(|ty| ty == "null");
                if let Some(Value::Array(variants)) = object.get_mut("anyOf")
                    && variants.len() == 2
                    && variants.iter().any(is_null)
                {
                    variants.retain(|variant| !is_null(variant));
                    // Wrapped, because in draft 7 a `$ref` hides the description beside it.
                    let only = std::mem::take(variants);
                    object.remove("anyOf");
                    object.insert("allOf".into(), only.into());
                }
                if let Some(Value::Array(types)) = object.get_mut("type")
                    && types.len() == 2
                {
                    types.retain(|ty| ty != "null");
                    if let [only] = &types[..] {
                        let only = only.clone();
                        object.insert("type".into(), only);
                    }
                }
                object.values_mut().for_each(without_null);
            }
            Value::Array(values) => values.iter_mut().for_each(without_null),
            _ => {}
        }
    }

    fn properties(definition: &Value) -> BTreeSet<&str> {
        definition["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .collect()
    }

    #[test]
    fn the_schema_has_the_keys_of_the_parser() {
        let schema = schema();
        for shape in SHAPES {
            let definition = &schema["definitions"][shape.schema];
            assert_eq!(
                properties(definition),
                shape.keys.iter().copied().collect(),
                "{}",
                shape.schema
            );
            assert_eq!(definition["additionalProperties"], Value::Bool(false), "{}", shape.schema);
        }
    }

    #[test]
    fn every_property_is_described() {
        fn walk(value: &Value, path: &str) {
            if let Some(properties) = value.get("properties").and_then(Value::as_object) {
                for (key, property) in properties {
                    let description = property["description"].as_str().unwrap_or_default();
                    assert!(description.len() > 10, "{path}/{key} has no description: {property}");
                }
            }
            match value {
                Value::Object(object) => {
                    object.iter().for_each(|(key, value)| walk(value, &format!("{path}/{key}")))
                }
                Value::Array(values) => values.iter().for_each(|value| walk(value, path)),
                _ => {}
            }
        }
        let schema = schema();
        walk(&schema, "");
        assert!(
            schema["definitions"]
                .as_object()
                .is_some_and(|definitions| definitions.len() > SHAPES.len())
        );
    }

    #[test]
    fn the_committed_schema_is_fresh() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/pipeline.schema.json");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, text()).expect("a writable folder");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text(),
            "schema/pipeline.schema.json is stale: BLESS=1 cargo test -p crux-compiler writes it anew"
        );
    }

    #[test]
    fn nothing_optional_may_be_null() {
        let refused = serde_json::json!({ "workflow": "a", "version": 1, "description": null, "steps": [{ "type": "pay" }] });
        let validator = jsonschema::validator_for(&schema()).expect("a schema");
        assert!(!validator.is_valid(&refused));
    }
}
