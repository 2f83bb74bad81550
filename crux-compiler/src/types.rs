//! What can be asked about types: how they are called in messages, whether a value of one fits a
//! place of another, what two branches have in common. Records and enums are the same type exactly
//! if they have the same name; the resolver gives each name once.

use std::collections::HashSet;
use std::sync::Arc;

use crate::ir::{Enum, Field, Record, Type, TypeName};

/// The module of the types that `types` names; only those are called by their names in messages.
pub const NAMED: &str = "types";

/// Whether both are the same type.
pub fn same(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Record(a), Type::Record(b)) => a.name == b.name,
        (Type::Enum(a), Type::Enum(b)) => a.name == b.name,
        (Type::List(a), Type::List(b))
        | (Type::Map(a), Type::Map(b))
        | (Type::Optional(a), Type::Optional(b)) => same(a, b),
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// Why a value of one type does not fit a place of another; the parts are named from outside to
/// inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeMismatch {
    /// It may be absent.
    Absent,
    Other,
    /// The field of a record, and why it does not fit.
    Field(String, Box<TypeMismatch>, TypePair),
    FieldMissing(String),
    /// A word that the wanted enum does not have.
    Word(String),
}

/// The two types of a field that does not fit, as text: found, wanted.
pub type TypePair = (String, String);

/// Whether a value of type `from` fits a place of type `to`, as it is or by `Coerce`.
pub fn fits(from: &Type, to: &Type) -> Result<(), TypeMismatch> {
    Fit { assumed: HashSet::new() }.fits(from, to)
}

struct Fit {
    /// Pairs of records being compared or done: with shared types a plain recursion would take
    /// exponential time.
    assumed: HashSet<(TypeName, TypeName)>,
}

impl Fit {
    fn fits(&mut self, from: &Type, to: &Type) -> Result<(), TypeMismatch> {
        match (from, to) {
            (Type::Optional(from), Type::Optional(to)) => self.fits(from, to),
            (Type::Optional(_), _) => Err(TypeMismatch::Absent),
            (_, Type::Optional(to)) => self.fits(from, to),
            (_, Type::Json) | (Type::Integer, Type::Number) => Ok(()),
            (Type::List(from), Type::List(to)) | (Type::Map(from), Type::Map(to)) => {
                self.fits(from, to)
            }
            (Type::Record(from), Type::Record(to)) => self.record(from, to),
            (Type::Enum(from), Type::Enum(to)) if from.name != to.name => {
                let known: HashSet<&String> = to.words.iter().collect();
                match from.words.iter().find(|word| !known.contains(word)) {
                    Some(word) => Err(TypeMismatch::Word(word.clone())),
                    None => Ok(()),
                }
            }
            _ if same(from, to) => Ok(()),
            _ => Err(TypeMismatch::Other),
        }
    }

    fn record(&mut self, from: &Arc<Record>, to: &Arc<Record>) -> Result<(), TypeMismatch> {
        if from.name == to.name || !self.assumed.insert((from.name.clone(), to.name.clone())) {
            return Ok(());
        }
        for wanted in &to.fields {
            match field(from, &wanted.name) {
                Some(found) => self.fits(&found.ty, &wanted.ty).map_err(|misfit| {
                    TypeMismatch::Field(
                        wanted.name.clone(),
                        Box::new(misfit),
                        (show(&found.ty), show(&wanted.ty)),
                    )
                })?,
                None if may_be_left_out(wanted) => {}
                None => return Err(TypeMismatch::FieldMissing(wanted.name.clone())),
            }
        }
        Ok(())
    }
}

impl Enum {
    /// Says that `value` is not one of its values: a type with a name by that, one without by them.
    pub fn refusal(&self, value: &str) -> String {
        if self.name.module == NAMED {
            return format!("`{value}` is not a value of {}", self.name.name);
        }
        let values: Vec<String> = self.words.iter().map(|word| format!("`{word}`")).collect();
        format!("`{value}` is not one of {}", values.join(", "))
    }
}

impl TypeMismatch {
    /// As a reason, if there is more to say than the two types.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Absent | Self::Other => None,
            Self::FieldMissing(field) => Some(format!("it has no field `{field}`")),
            Self::Word(word) => Some(format!("`{word}` is none of the values")),
            Self::Field(field, inner, (found, wanted)) => {
                let plain = format!("its field `{field}` is {found}, expected {wanted}");
                Some(inner.reason().map_or(plain.clone(), |reason| format!("{plain}: {reason}")))
            }
        }
    }
}

/// The type that both branches of an expression fit, if there is one. Json is not a common type of
/// everything: it would hide mistakes.
pub fn common(a: &Type, b: &Type) -> Option<Type> {
    if a.present() == &Type::Json || b.present() == &Type::Json {
        return (same(a.present(), b.present()))
            .then(|| if b.is_optional() { b.clone() } else { a.clone() });
    }
    let (inner_a, inner_b) = (a.present(), b.present());
    let present = if fits(inner_a, inner_b).is_ok() {
        inner_b.clone()
    } else if fits(inner_b, inner_a).is_ok() {
        inner_a.clone()
    } else {
        return None;
    };
    Some(if a.is_optional() || b.is_optional() { present.optional() } else { present })
}

/// The field of a record.
pub fn field<'a>(record: &'a Record, name: &str) -> Option<&'a Field> {
    record.fields.iter().find(|field| field.name == name)
}

/// Whether a record can be built without this field.
pub fn may_be_left_out(field: &Field) -> bool {
    field.ty.is_optional() || field.default.is_some()
}

/// Whether values of this type have a text (`${}` inside a text, `string()`): numbers, times,
/// words, but no list, record or optional.
pub fn has_text(ty: &Type) -> bool {
    matches!(
        ty,
        Type::String
            | Type::Enum(_)
            | Type::Boolean
            | Type::Integer
            | Type::Number
            | Type::Timestamp
            | Type::Duration
    )
}

/// Fields of a record without a name that a message shows.
const SHOWN_FIELDS: usize = 4;

/// The type as the user would write it.
pub fn show(ty: &Type) -> String {
    match ty {
        Type::String => "string".into(),
        Type::Integer => "integer".into(),
        Type::Number => "number".into(),
        Type::Boolean => "boolean".into(),
        Type::Timestamp => "timestamp".into(),
        Type::Duration => "duration".into(),
        Type::Json => "json".into(),
        Type::List(of) => format!("list<{}>", show(of)),
        Type::Map(of) => format!("map<{}>", show(of)),
        Type::Optional(of) => match &**of {
            Type::Enum(words) if words.name.module != NAMED => format!("({})?", show_enum(words)),
            of => format!("{}?", show(of)),
        },
        Type::Record(record) => show_record(record),
        Type::Enum(words) => show_enum(words),
        Type::Error => "error".into(),
    }
}

pub fn show_record(record: &Record) -> String {
    if record.name.module == NAMED {
        return record.name.name.clone();
    }
    if record.fields.is_empty() {
        return "{}".into();
    }
    // One level only: what is inside would drown the message.
    let brief = |ty: &Type| match ty.present() {
        Type::Record(inner) if inner.name.module != NAMED => {
            if ty.is_optional() { "{…}?" } else { "{…}" }.into()
        }
        _ => show(ty),
    };
    let shown = record
        .fields
        .iter()
        .take(SHOWN_FIELDS)
        .map(|field| format!("{}: {}", field.name, brief(&field.ty)));
    let more = (record.fields.len() > SHOWN_FIELDS).then(|| "…".to_owned());
    format!("{{ {} }}", shown.chain(more).collect::<Vec<_>>().join(", "))
}

fn show_enum(words: &Enum) -> String {
    if words.name.module == NAMED { words.name.name.clone() } else { words.words.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, fields: &[(&str, Type)]) -> Type {
        let name = TypeName { module: "test".into(), name: name.into() };
        let field = |(name, ty): &(&str, Type)| Field {
            name: (*name).into(),
            ty: ty.clone(),
            default: None,
            min: None,
            max: None,
            pattern: None,
            secret: false,
            description: None,
        };
        Type::Record(Arc::new(Record { name, fields: fields.iter().map(field).collect() }))
    }

    fn words(name: &str, words: &[&str]) -> Type {
        let name = TypeName { module: "test".into(), name: name.into() };
        Type::Enum(Arc::new(Enum {
            name,
            words: words.iter().map(|word| (*word).into()).collect(),
        }))
    }

    #[test]
    fn what_fits_and_what_does_not() {
        let list = |of: Type| Type::List(Box::new(of));
        let small = record("small", &[("a", Type::Integer)]);
        let large = record("large", &[("a", Type::Integer), ("b", Type::String)]);
        let number = record("number", &[("a", Type::Number), ("c", Type::String.optional())]);
        for (from, to, expected) in [
            (Type::Integer, Type::Number, Ok(())),
            (Type::Number, Type::Integer, Err(TypeMismatch::Other)),
            (Type::String, Type::String.optional(), Ok(())),
            (Type::String.optional(), Type::String, Err(TypeMismatch::Absent)),
            (Type::Integer.optional(), Type::Number.optional(), Ok(())),
            (list(Type::Integer), list(Type::Number), Ok(())),
            (list(Type::String.optional()), list(Type::String), Err(TypeMismatch::Absent)),
            (small.clone(), Type::Json, Ok(())),
            (small.clone().optional(), Type::Json, Err(TypeMismatch::Absent)),
            (Type::Json, Type::String, Err(TypeMismatch::Other)),
            (large.clone(), small.clone(), Ok(())),
            (small.clone(), number, Ok(())),
            (small, large, Err(TypeMismatch::FieldMissing("b".into()))),
            (words("x", &["a"]), words("y", &["a", "b"]), Ok(())),
            (words("y", &["a", "b"]), words("x", &["a"]), Err(TypeMismatch::Word("b".into()))),
            (words("x", &["a"]), Type::String, Err(TypeMismatch::Other)),
        ] {
            assert_eq!(fits(&from, &to), expected, "{} into {}", show(&from), show(&to));
        }
    }

    #[test]
    fn types_shared_many_times_are_compared_once() {
        let deep = |prefix: &str| {
            let mut ty = record(&format!("{prefix}0"), &[("x", Type::String)]);
            for level in 1..60 {
                ty = record(&format!("{prefix}{level}"), &[("a", ty.clone()), ("b", ty)]);
            }
            ty
        };
        assert_eq!(fits(&deep("l"), &deep("r")), Ok(()));
    }

    #[test]
    fn branches_have_a_common_type() {
        let shown = |a: &Type, b: &Type| common(a, b).map(|ty| show(&ty));
        assert_eq!(shown(&Type::Integer, &Type::Number).as_deref(), Some("number"));
        assert_eq!(shown(&Type::Integer.optional(), &Type::Integer).as_deref(), Some("integer?"));
        assert_eq!(shown(&Type::String, &Type::Integer), None);
        assert_eq!(shown(&Type::String, &Type::Json), None);
    }

    #[test]
    fn types_are_shown_as_written() {
        assert_eq!(show(&Type::List(Box::new(Type::String)).optional()), "list<string>?");
        let inner = record("inner", &[("x", Type::String)]);
        assert_eq!(
            show(&record("r", &[("a", Type::Integer), ("b", inner.optional())])),
            "{ a: integer, b: {…}? }"
        );
        assert_eq!(show(&words("w", &["a", "b"]).optional()), "(a | b)?");
    }
}
