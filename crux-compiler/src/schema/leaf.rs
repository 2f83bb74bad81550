//! The single values of the schema: patterns for names, types, durations, expressions. The patterns
//! are made from the rules of the parser, so that both refuse the same texts; they use no
//! look-around, which not every editor understands.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::patterns;
use crate::names::Kind;
use crate::parse;

/// A type whose schema is a value computed in place.
macro_rules! leaf {
    ($($(#[doc = $doc:literal])* $name:ident => $schema:expr;)*) => {
        $($(#[doc = $doc])*
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schema_of($schema)
            }
        })*
    };
}

fn schema_of(value: Value) -> Schema {
    Schema::try_from(value).unwrap_or_default()
}

fn name(kind: Kind, what: &str) -> Value {
    json!({ "type": "string", "pattern": kind.pattern(), "maxLength": crate::names::LENGTH_MAX, "description": format!("{what}: {}", kind.rule()) })
}

leaf! {
    /// Workflows, steps, branches, step types, items.
    Id => name(Kind::Id, "a name");
    /// Types, errors, step structs.
    TypeName => name(Kind::Type, "a capitalised name");
    Duration => json!({
        "type": "string", "pattern": patterns::DURATION, "minLength": 2, "not": { "pattern": patterns::DURATION_ZERO },
        "description": "a duration like `500ms`, `10s` or `1h30m`",
    });
    DurationOrZero => json!({
        "type": "string", "pattern": patterns::DURATION, "minLength": 2, "description": "a duration like `500ms`, or `0s`",
    });
    /// Any scalar: `true` and `5` are expressions too, if not very useful ones.
    Expression => json!({ "type": ["string", "number", "boolean"], "description": "an expression without `${}`, like `input.total > 100`" });
    RoutingKey => json!({ "type": "string", "pattern": patterns::FILLED, "description": "a routing key like `order.paid`" });
    EventName => json!({ "type": "string", "pattern": patterns::FILLED, "description": "the name of an event, which is its routing key" });
    Hook => json!({ "type": "string", "pattern": patterns::FILLED, "description": "a routing key like `workflow.completed`, or `webhook:NAME`" });
    Filled => json!({ "type": "string", "pattern": patterns::FILLED });
    HttpRoute => json!({ "type": "string", "pattern": patterns::HTTP, "description": "`POST /path`" });
    Version => json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX });
    Attempts => json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX });
    Count => json!({ "type": "integer", "minimum": 1, "maximum": parse::COUNT_MAX });
    Factor => json!({ "type": "number", "minimum": 1, "maximum": parse::FACTOR_MAX });
    ErrorOrAny => json!({ "type": "string", "pattern": Kind::Type.pattern().replacen('^', "^any$|^", 1), "description": "the name of an error, or `any`" });
    /// A type in a text: `string`, `list<integer>?`, `Channel`, `email | sms`.
    TypeText => json!({ "type": "string", "pattern": patterns::type_text(), "description": "a type like `string`, `list<integer>`, `Channel?` or `email | sms`" });
}

/// What a `${…}` text, a literal, a list or a record may be, at any depth.
pub struct AnyValue;

impl JsonSchema for AnyValue {
    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let inner = generator.subschema_for::<Self>();
        json_schema!({
            "description": "a literal, a string with `${…}`, a list or a record",
            "anyOf": [
                { "type": ["string", "number", "boolean", "null"] },
                { "type": "array", "items": inner },
                { "type": "object", "propertyNames": { "not": { "pattern": patterns::COMPUTED } }, "additionalProperties": inner },
            ],
        })
    }
}

/// A mapping from names of one kind to values of one shape.
fn mapping<T: JsonSchema>(
    generator: &mut SchemaGenerator,
    names: Value,
    description: &str,
) -> Schema {
    let inner = generator.subschema_for::<T>();
    json_schema!({ "type": "object", "description": description, "propertyNames": names, "additionalProperties": inner })
}

/// Mappings with free names.
macro_rules! mappings {
    ($($(#[doc = $doc:literal])* $name:ident: $kind:expr => $inner:ty, $description:literal;)*) => {
        $($(#[doc = $doc])*
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                mapping::<$inner>(generator, $kind, $description)
            }
        })*
    };
}

fn names(kind: Kind) -> Value {
    json!({ "pattern": kind.pattern(), "maxLength": crate::names::LENGTH_MAX })
}

mappings! {
    Values: names(Kind::Field) => AnyValue, "names and their values";
    RecordType: names(Kind::Field) => super::shape::FieldType, "the fields of a record: names and types";
    Types: names(Kind::Type) => super::shape::NamedType, "named types";
    Events: json!({}) => super::shape::RecordOrName, "events and the records that they carry";
    StepTypes: names(Kind::Id) => super::shape::StepType, "step types and their contracts";
    Branches: names(Kind::Id) => super::step::Steps, "branches and their steps";
    Cases: json!({}) => super::step::Steps, "values and their steps";
}

/// A mapping like `M` with at least one entry.
pub struct NotEmpty<M>(M);

impl<M: JsonSchema> JsonSchema for NotEmpty<M> {
    fn schema_name() -> Cow<'static, str> {
        format!("Some{}", M::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = M::json_schema(generator);
        schema.insert("minProperties".into(), 1.into());
        schema
    }
}
