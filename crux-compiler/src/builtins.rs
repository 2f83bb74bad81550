//! The built-in functions as one table, a row for each way to call one. Typing, generated code,
//! drawings and hashes read it, so that a new function is a variant of [`Function`], a row here,
//! and a function of `crux_runtime::machine::expr` where Rust has none.

use crate::ir::{Function, Type};
use crate::types::has_text;

/// One way to call a function.
#[derive(Debug)]
pub struct Builtin {
    pub function: Function,
    /// As it is called in YAML; also its tag in hashes, which therefore never changes.
    pub name: &'static str,
    pub form: Form,
    /// As help shows it.
    pub usage: &'static str,
    /// The type of its first argument, which of a method is what it follows.
    pub takes: Takes,
    /// The same in words, of all rows of the name together.
    pub takes_words: &'static str,
    /// The further arguments.
    pub parts: &'static [Part],
    pub result: Gives,
    pub rust: Rust,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `size(x)`.
    Function,
    /// `x.lower()`.
    Method,
}

/// Which types an argument may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    String,
    Integer,
    Number,
    Json,
    /// A value that may be absent.
    Optional,
    /// Something that has a size.
    Sized,
    /// Something that can be converted to a string.
    Text,
    List,
    ListOfStrings,
    ListOfNumbers,
    /// A list of what has an order and is not a string.
    ListOfOrdered,
}

/// A further argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    String,
    /// Of the type of the first argument's elements.
    Element,
}

/// The type of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    Boolean,
    Integer,
    Number,
    String,
    /// May be absent, as may the next three.
    ParsedInteger,
    ParsedNumber,
    ParsedTimestamp,
    ParsedDuration,
    Element,
    ElementOrAbsent,
}

/// What it is in Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rust {
    /// A function of `machine::expr`.
    Call(&'static str, Argument, Outcome),
    /// A method without arguments.
    Method(&'static str),
    /// A method of a string, that takes a pattern.
    Pattern(&'static str),
    /// `join` of a list of strings.
    Join,
    /// The same as `part in list`.
    Contains,
    /// `is_some()`.
    IsPresent,
    /// A key in json.
    HasKey,
    /// The same as `"${x}"`.
    Interpolate,
}

/// How a function of `machine::expr` takes its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    Borrowed,
    Slice,
    Owned,
    /// As one's own, a literal with its type.
    Suffixed,
}

/// What a function of `machine::expr` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Value,
    Option,
    Result,
}

macro_rules! rows {
    ($($form:ident $function:ident $name:literal $usage:literal, $takes:ident ($words:literal) $parts:expr, $gives:ident, $rust:expr;)*) => {
        &[$(Builtin {
            function: Function::$function,
            name: $name,
            form: Form::$form,
            usage: $usage,
            takes: Takes::$takes,
            takes_words: $words,
            parts: &$parts,
            result: Gives::$gives,
            rust: $rust,
        }),*]
    };
}

use Argument::{Borrowed, Owned, Slice, Suffixed};
use Outcome::{Option, Result, Value};
use Part::{Element, String};
use Rust::{Call, Contains, HasKey, Interpolate, IsPresent, Join, Method, Pattern};

#[rustfmt::skip]
pub static BUILTINS: &[Builtin] = rows! {
    Function Size "size" "size(x)", Sized ("a string, a list or a map") [], Integer, Call("size", Borrowed, Value);
    Function Has "has" "has(x)", Optional ("what may be absent") [], Boolean, IsPresent;
    Function Has "has" "has(json, \"key\")", Json ("json") [String], Boolean, HasKey;
    Function ToString "string" "string(x)", Text ("integer, number, boolean, timestamp, duration or an enum value") [], String, Interpolate;
    Function ToInteger "integer" "integer(x)", Number ("number or string") [], Integer, Call("truncate", Owned, Result);
    Function ToInteger "integer" "integer(x)", String ("number or string") [], ParsedInteger, Call("parse_integer", Borrowed, Option);
    Function ToNumber "number" "number(x)", Integer ("integer or string") [], Number, Call("to_number", Suffixed, Value);
    Function ToNumber "number" "number(x)", String ("integer or string") [], ParsedNumber, Call("parse_number", Borrowed, Option);
    Function ToTimestamp "timestamp" "timestamp(x)", String ("string") [], ParsedTimestamp, Call("parse_timestamp", Borrowed, Option);
    Function ToDuration "duration" "duration(x)", String ("string") [], ParsedDuration, Call("parse_duration", Borrowed, Option);
    Method Contains "contains" "text.contains(part)", String ("a string or a list") [String], Boolean, Pattern("contains");
    Method Contains "contains" "xs.contains(x)", List ("a string or a list") [Element], Boolean, Contains;
    Method StartsWith "startsWith" "text.startsWith(part)", String ("a string") [String], Boolean, Pattern("starts_with");
    Method EndsWith "endsWith" "text.endsWith(part)", String ("a string") [String], Boolean, Pattern("ends_with");
    Method Lower "lower" "text.lower()", String ("a string") [], String, Method("to_lowercase");
    Method Upper "upper" "text.upper()", String ("a string") [], String, Method("to_uppercase");
    Method Join "join" "xs.join(\", \")", ListOfStrings ("a list<string>") [String], String, Join;
    Method Sum "sum" "xs.sum()", ListOfNumbers ("a list of integers or numbers") [], Element, Call("sum", Slice, Result);
    Method Min "min" "xs.min()", ListOfOrdered ("a list of integers, numbers, timestamps or durations") [], ElementOrAbsent, Call("min", Slice, Option);
    Method Max "max" "xs.max()", ListOfOrdered ("a list of integers, numbers, timestamps or durations") [], ElementOrAbsent, Call("max", Slice, Option);
};

/// The rows of a name in one form.
pub fn named(form: Form, name: &str) -> impl Iterator<Item = &'static Builtin> {
    BUILTINS.iter().filter(move |row| row.form == form && row.name == name)
}

/// The row by which a checked expression calls `function`.
pub fn row(function: Function, first: &Type) -> std::option::Option<&'static Builtin> {
    BUILTINS.iter().find(|row| row.function == function && row.takes.accepts(first))
}

/// What a function is called, and in which form.
pub fn name_of(function: Function) -> (&'static str, Form) {
    BUILTINS
        .iter()
        .find(|row| row.function == function)
        .map_or(("", Form::Function), |row| (row.name, row.form))
}

impl Takes {
    pub fn accepts(self, ty: &Type) -> bool {
        let element = match ty {
            Type::List(element) => Some(&**element),
            _ => None,
        };
        match self {
            Self::String => *ty == Type::String,
            Self::Integer => *ty == Type::Integer,
            Self::Number => *ty == Type::Number,
            Self::Json => *ty == Type::Json,
            Self::Optional => ty.is_optional(),
            Self::Sized => matches!(ty, Type::String | Type::List(_) | Type::Map(_)),
            Self::Text => has_text(ty),
            Self::List => element.is_some(),
            Self::ListOfStrings => element == Some(&Type::String),
            Self::ListOfNumbers => matches!(element, Some(Type::Integer | Type::Number)),
            Self::ListOfOrdered => matches!(
                element,
                Some(Type::Integer | Type::Number | Type::Timestamp | Type::Duration)
            ),
        }
    }
}

impl Builtin {
    /// The type of the result, the first argument being of this type.
    pub fn gives(&self, first: &Type) -> Type {
        let element = || match first {
            Type::List(element) => (**element).clone(),
            _ => Type::Json,
        };
        match self.result {
            Gives::Boolean => Type::Boolean,
            Gives::Integer => Type::Integer,
            Gives::Number => Type::Number,
            Gives::String => Type::String,
            Gives::ParsedInteger => Type::Integer.optional(),
            Gives::ParsedNumber => Type::Number.optional(),
            Gives::ParsedTimestamp => Type::Timestamp.optional(),
            Gives::ParsedDuration => Type::Duration.optional(),
            Gives::Element => element(),
            Gives::ElementOrAbsent => element().optional(),
        }
    }
}
