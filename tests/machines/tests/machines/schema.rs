//! Values of a JSON Schema, as a tape of choices has it.

use serde_json::{Map, Value, json};

/// Choices that are made one after the other; past its end all are the first.
pub struct Tape {
    choices: Vec<u32>,
    at: usize,
}

impl Tape {
    pub fn new(choices: Vec<u32>) -> Self {
        Self { choices, at: 0 }
    }

    /// Below `bound`, or 0.
    pub fn next(&mut self, bound: usize) -> usize {
        let choice = self.choices.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        if bound == 0 { 0 } else { usize::try_from(choice).unwrap_or(0) % bound }
    }
}

/// Of what the compiler's schemas say; texts, lists and numbers are small.
pub fn value(schema: &Value, tape: &mut Tape) -> Value {
    let is_optional = schema["type"].is_array();
    if is_optional && tape.next(3) == 0 {
        return Value::Null;
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<&Value> = words.iter().filter(|word| !word.is_null()).collect();
        return words[tape.next(words.len())].clone();
    }
    let ty = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("");
    let at_most = |name: &str| {
        schema[name].as_u64().map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
    };
    let at_least =
        |name: &str| schema[name].as_u64().map_or(0, |least| usize::try_from(least).unwrap_or(0));
    match ty {
        "object" => {
            let mut object = Map::new();
            if schema["additionalProperties"].is_object() {
                for name in ["a", "b"].iter().take(tape.next(3)) {
                    object.insert((*name).into(), value(&schema["additionalProperties"], tape));
                }
            }
            for (name, of) in schema["properties"].as_object().into_iter().flatten() {
                let is_required = schema["required"]
                    .as_array()
                    .is_some_and(|required| required.iter().any(|required| required == name));
                if is_required || tape.next(2) == 0 {
                    object.insert(name.clone(), value(of, tape));
                }
            }
            Value::Object(object)
        }
        "array" => {
            let length = at_least("minItems").max(tape.next(4)).min(at_most("maxItems"));
            Value::Array((0..length).map(|_| value(&schema["items"], tape)).collect())
        }
        "string" if schema["format"] == "date-time" => {
            json!(["1970-01-01T00:00:01Z", "2026-07-01T12:00:00Z"][tape.next(2)])
        }
        "string"
            if schema["pattern"].as_str().is_some_and(|pattern| pattern.starts_with("^-?(")) =>
        {
            json!(["1h", "5ms"][tape.next(2)])
        }
        "string" => json!(["A", "B", "7"][tape.next(3)].repeat(at_least("minLength").max(1))),
        "integer" => {
            json!(at_least("minimum").max([0, 1, 7, 20_000][tape.next(4)]).min(at_most("maximum")))
        }
        "number" => json!(
            [0.0_f64, 0.5, 40.25][tape.next(3)].max(schema["minimum"].as_f64().unwrap_or(0.0))
        ),
        "boolean" => json!(tape.next(2) == 1),
        _ => [json!("any"), json!({ "a": 1 }), json!([1])][tape.next(3)].clone(),
    }
}
