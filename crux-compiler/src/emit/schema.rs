//! JSON Schemas of what comes in and goes out, from the same types as the Rust structs.

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::{Map, Value, json};

use crate::bound::Bound;
use crate::ir::{Enum, ExprKind, Field, Record, Type};

/// JSON as a literal that people can read.
pub(super) fn raw(json: &Value) -> TokenStream {
    let text = json.to_string();
    let mut fence = "#".to_owned();
    while text.contains(&format!("\"{fence}")) {
        fence.push('#');
    }
    // A raw literal can be parsed by construction; if not, a plain one says the same.
    format!("r{fence}\"{text}\"{fence}").parse().unwrap_or_else(|_| quote!(#text))
}

/// Whatever it is.
pub(super) fn anything() -> Value {
    json!({})
}

/// Without references: types do not recurse, so every schema stands alone.
pub fn record(record: &Record) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in &record.fields {
        properties.insert(field.name.clone(), self::field(field));
        if !field.ty.is_optional() && field.default.is_none() {
            required.push(field.name.clone());
        }
    }
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn field(field: &Field) -> Value {
    let mut schema = self::ty(&field.ty);
    if let Some(description) = &field.description {
        schema["description"] = json!(description);
    }
    if let Some(default) = field.default.as_ref().and_then(|default| literal(&default.kind)) {
        schema["default"] = default;
    }
    let (min, max) = match field.ty.present() {
        Type::String => ("minLength", "maxLength"),
        Type::List(_) => ("minItems", "maxItems"),
        _ => ("minimum", "maximum"),
    };
    for (name, bound) in [(min, field.min), (max, field.max)] {
        if let Some(bound) = bound {
            schema[name] = number(bound);
        }
    }
    if let Some(pattern) = &field.pattern {
        schema["pattern"] = json!(pattern);
    }
    schema
}

/// Sizes and bounds are whole numbers where they can be.
fn number(bound: Bound) -> Value {
    if let Some(whole) = bound.beyond_doubles() {
        return json!(whole);
    }
    let value = bound.number();
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

pub fn ty(ty: &Type) -> Value {
    match ty {
        Type::String => json!({ "type": "string" }),
        Type::Integer => json!({ "type": "integer" }),
        Type::Number => json!({ "type": "number" }),
        Type::Boolean => json!({ "type": "boolean" }),
        Type::Timestamp => json!({ "type": "string", "format": "date-time" }),
        Type::Duration => {
            json!({ "type": "string", "pattern": "^-?(\\d+d)?(\\d+h)?(\\d+m)?(\\d+s)?(\\d+ms)?$" })
        }
        Type::Json => json!({}),
        Type::List(of) => json!({ "type": "array", "items": self::ty(of) }),
        Type::Map(of) => json!({ "type": "object", "additionalProperties": self::ty(of) }),
        Type::Optional(of) => optional(self::ty(of)),
        Type::Record(record) => self::record(record),
        Type::Enum(of) => words(of),
        Type::Error => {
            json!({ "type": "object", "properties": { "name": { "type": "string" }, "message": { "type": "string" } } })
        }
    }
}

/// Null is the same as absent.
fn optional(mut schema: Value) -> Value {
    if let Some(ty) = schema.get("type").cloned() {
        schema["type"] = json!([ty, "null"]);
        if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
            words.push(Value::Null);
        }
    }
    schema
}

fn words(of: &Enum) -> Value {
    json!({ "type": "string", "enum": of.words })
}

/// The value of a literal as JSON.
pub(super) fn literal(kind: &ExprKind) -> Option<Value> {
    Some(match kind {
        ExprKind::Text(text) | ExprKind::Word(text) => json!(text),
        ExprKind::Integer(value) => json!(value),
        ExprKind::Number(value) => json!(value),
        ExprKind::Boolean(value) => json!(value),
        ExprKind::Timestamp(microseconds) => {
            json!(jiff::Timestamp::from_microsecond(*microseconds).ok()?.to_string())
        }
        ExprKind::Duration { ms } => json!(crate::units::format_duration(u64::try_from(*ms).ok()?)),
        ExprKind::List(items) => {
            Value::Array(items.iter().map(|item| literal(&item.kind)).collect::<Option<_>>()?)
        }
        ExprKind::Record(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| Some((name.clone(), literal(&value.kind)?)))
                .collect::<Option<_>>()?,
        ),
        ExprKind::Coerce(inner) => literal(&inner.kind)?,
        _ => return None,
    })
}
