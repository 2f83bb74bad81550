//! Types as they are written: texts like `list<string>?` and `email | sms`, records as mappings,
//! fields with `$` details.

use std::collections::HashMap;

use super::mapping::{Mapping, Shape, list, nowhere, wrong_kind};
use super::scalar;
use super::tree::{BROKEN_KEY, Kind, Node, Pair};
use super::value;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model::{EventDecl, Field, Name, TypeDecl, TypeExpr, TypeShape};
use crate::names;
use crate::source::Span;
use crate::suggest;
use crate::text::Text;

pub static FIELD: Shape = Shape {
    what: "a field with details",
    schema: "Field",
    keys: &["$type", "$default", "$min", "$max", "$pattern", "$secret", "$description"],
};

/// Deepest `list<list<…>>`.
pub const NESTING_MAX: usize = 8;

/// Most words of an enum.
const WORDS_MAX: usize = 1000;

pub const BASES: &[(&str, TypeShape)] = &[
    ("string", TypeShape::String),
    ("integer", TypeShape::Integer),
    ("number", TypeShape::Number),
    ("boolean", TypeShape::Boolean),
    ("timestamp", TypeShape::Timestamp),
    ("duration", TypeShape::Duration),
    ("json", TypeShape::Json),
];

/// What other languages call these types.
const FOREIGN: &[(&str, &str)] = &[
    ("str", "string"),
    ("text", "string"),
    ("uuid", "string"),
    ("int", "integer"),
    ("long", "integer"),
    ("i64", "integer"),
    ("float", "number"),
    ("double", "number"),
    ("decimal", "number"),
    ("f64", "number"),
    ("bool", "boolean"),
    ("date", "timestamp"),
    ("datetime", "timestamp"),
    ("time", "timestamp"),
    ("any", "json"),
    ("object", "json"),
    ("array", "list<…>"),
    ("list", "list<…>"),
    ("dict", "map<…>"),
    ("map", "map<…>"),
];

/// The entries of `types`.
pub fn declarations(pair: &Pair, sink: &mut Sink) -> Vec<TypeDecl> {
    let mut all = Vec::new();
    for pair in pairs(pair, sink) {
        let name =
            scalar::check_name(pair.key.clone(), names::Kind::Type, "the name of a type", sink);
        let Some(details) = details(pair, sink) else { continue };
        for (key, span) in details.limits {
            sink.push(
                Diagnostic::error(
                    codes::BAD_FIELD,
                    span,
                    format!("`{key}` belongs to a field, not to a type"),
                )
                .label("not on a named type")
                .help("write it on the fields of this type"),
            );
        }
        let (Some(name), Some(field)) = (name, details.field) else { continue };
        all.push(TypeDecl { name, description: field.description, ty: field.ty });
    }
    all
}

/// The entries of `events`. The syntax of event names is that of routing keys and is checked with
/// them.
pub fn events(pair: &Pair, sink: &mut Sink) -> Vec<EventDecl> {
    let declare = |pair: &Pair, sink: &mut Sink| {
        Some(EventDecl { name: pair.key.clone(), ty: record(pair, sink)? })
    };
    pairs(pair, sink).iter().filter_map(|pair| declare(pair, sink)).collect()
}

/// The pairs of a mapping with free keys; those already refused are left out by the caller's
/// checks.
fn pairs<'a>(pair: &'a Pair, sink: &mut Sink) -> &'a [Pair] {
    match &pair.value.kind {
        Kind::Mapping(pairs) => pairs,
        _ => {
            wrong_kind(&format!("`{}`", pair.key.value), &pair.value, "a record", sink);
            &[]
        }
    }
}

/// A record in place, or the name of one: `input`, `takes`, `returns`, an event.
pub fn record(pair: &Pair, sink: &mut Sink) -> Option<TypeExpr> {
    let ty = node(&pair.value, &format!("`{}`", pair.key.value), sink)?;
    if matches!(ty.shape, TypeShape::Record(_) | TypeShape::Named(_)) {
        return Some(ty);
    }
    sink.push(
        Diagnostic::error(codes::BAD_TYPE, ty.span, format!("`{}` must be a record", pair.key.value))
            .label("this type has no fields")
            .help(format!("write names and types: `{}: {{ name: string }}`, or the name of a record under `types`", pair.key.value)),
    );
    None
}

/// A type: a text, or a mapping that is a record. `what` is for messages.
fn node(node: &Node, what: &str, sink: &mut Sink) -> Option<TypeExpr> {
    match &node.kind {
        Kind::Text(text) => parse_text(text, sink),
        Kind::Mapping(pairs) => {
            if let Some(dollar) = pairs.iter().find(|pair| pair.key.value.starts_with('$')) {
                sink.push(
                    Diagnostic::error(
                        codes::BAD_FIELD,
                        dollar.key.span,
                        format!("`{}` belongs to a field", dollar.key.value),
                    )
                    .label("not to a record")
                    .help("fields are named first: `name: { $type: string }`"),
                );
                return None;
            }
            Some(TypeExpr { shape: TypeShape::Record(fields(pairs, sink)), span: node.span })
        }
        Kind::List(elements) => {
            let element = match elements.first().map(|element| &element.kind) {
                Some(Kind::Text(text)) => text.value.as_str(),
                _ => "string",
            };
            sink.push(
                Diagnostic::error(
                    codes::BAD_TYPE,
                    node.span,
                    format!("{what} must be a type, not a list"),
                )
                .label("to YAML this is a list")
                .help(format!("a list type is written `list<{element}>`")),
            );
            None
        }
        Kind::Absent | Kind::Null | Kind::Boolean(..) | Kind::Integer(..) | Kind::Number(..) => {
            wrong_kind(what, node, "a type", sink);
            None
        }
        Kind::Broken => None,
    }
}

fn fields(pairs: &[Pair], sink: &mut Sink) -> Vec<Field> {
    let mut fields = Vec::new();
    for pair in pairs.iter().filter(|pair| pair.key.value != BROKEN_KEY) {
        let name =
            scalar::check_name(pair.key.clone(), names::Kind::Field, "the name of a field", sink);
        let field = details(pair, sink).and_then(|details| details.field);
        if let (Some(_), Some(field)) = (name, field) {
            fields.push(field);
        }
    }
    fields
}

/// A field, and which limits it sets.
struct Details {
    field: Option<Field>,
    limits: Vec<(&'static str, Span)>,
}

/// A type, or a mapping of `$` details around one.
fn details(pair: &Pair, sink: &mut Sink) -> Option<Details> {
    let what = format!("`{}`", pair.key.value);
    let with_details = matches!(&pair.value.kind, Kind::Mapping(pairs) if pairs.iter().any(|pair| pair.key.value.starts_with('$')));
    if matches!(pair.value.kind, Kind::Absent) {
        sink.push(
            Diagnostic::error(codes::WRONG_KIND, pair.key.span, format!("{what} has no type"))
                .label("nothing follows it")
                .help(format!("write `{}: string`", pair.key.value)),
        );
        return None;
    }
    if !with_details {
        if let Some(diagnostic) = schema_like(pair) {
            sink.push(diagnostic);
            return None;
        }
        let ty = node(&pair.value, &what, sink)?;
        let field = Field {
            name: pair.key.clone(),
            ty,
            default: None,
            min: None,
            max: None,
            pattern: None,
            secret: false,
            description: None,
        };
        return Some(Details { field: Some(field), limits: Vec::new() });
    }
    if let Some(diagnostic) = mixed(pair) {
        sink.push(diagnostic);
        return None;
    }
    let mapping = Mapping::open(&pair.value, &FIELD, nowhere, sink)?;
    let ty = mapping
        .need("$type", "$type: string", sink)
        .and_then(|pair| node(&pair.value, "`$type`", sink));
    let default = mapping.get("$default").and_then(|pair| value::value(&pair.value, sink));
    let min = mapping.get("$min").and_then(|pair| scalar::bound(pair, sink));
    let max = mapping.get("$max").and_then(|pair| scalar::bound(pair, sink));
    let pattern = mapping.get("$pattern").and_then(|pair| scalar::text(pair, sink));
    let secret = mapping
        .get("$secret")
        .and_then(|pair| scalar::boolean(pair, sink))
        .is_some_and(|secret| secret.value);
    let description = mapping.get("$description").and_then(|pair| scalar::text(pair, sink));
    if let (Some(min), Some(max)) = (&min, &max)
        && min.value > max.value
    {
        sink.push(
            Diagnostic::error(codes::LIMITS_CROSSED, max.span, "`$max` is below `$min`")
                .label("no value can be both")
                .other(min.span, "`$min` is here"),
        );
    }
    let limits = ["$default", "$min", "$max", "$pattern", "$secret"];
    let limits = limits
        .into_iter()
        .filter_map(|key| mapping.get(key).map(|pair| (key, pair.key.span)))
        .collect();
    let field = ty.map(|ty| Field {
        name: pair.key.clone(),
        ty,
        default,
        min,
        max,
        pattern,
        secret,
        description,
    });
    Some(Details { field, limits })
}

/// `{ type: string, required: true }`, as a JSON Schema says it.
fn schema_like(pair: &Pair) -> Option<Diagnostic> {
    let Kind::Mapping(pairs) = &pair.value.kind else { return None };
    let ty = pairs.iter().find(|pair| pair.key.value == "type")?;
    let detail = pairs.iter().find(|pair| {
        matches!(pair.value.kind, Kind::Boolean(..) | Kind::Integer(..) | Kind::Number(..))
    })?;
    let message =
        format!("`{}` is not a field: its value is {}", detail.key.value, detail.value.describe());
    let diagnostic =
        Diagnostic::error(codes::BAD_FIELD, detail.key.span, message).label("not a type");
    let diagnostic = diagnostic.other(ty.key.span, "this makes a field called `type`");
    Some(diagnostic.help("details of a field begin with `$`: `{ $type: string, $min: 1 }`; one that may be absent is `string?`"))
}

/// Details and fields in one mapping.
fn mixed(pair: &Pair) -> Option<Diagnostic> {
    let Kind::Mapping(pairs) = &pair.value.kind else { return None };
    let detail = pairs.iter().find(|pair| pair.key.value.starts_with('$'))?;
    let field = pairs
        .iter()
        .find(|pair| !pair.key.value.starts_with('$') && pair.key.value != BROKEN_KEY)?;
    let message =
        format!("`{}` and `{}` cannot be used together", detail.key.value, field.key.value);
    let diagnostic = Diagnostic::error(codes::BAD_FIELD, detail.key.span, message)
        .label("a detail of the field")
        .other(field.key.span, "a field of a record");
    let name = &pair.key.value;
    Some(diagnostic.help(format!(
        "details go around the type: `{name}: {{ $type: {{ {}: … }}, {}: … }}`",
        field.key.value, detail.key.value
    )))
}

/// A type in a text.
fn parse_text(text: &Text, sink: &mut Sink) -> Option<TypeExpr> {
    let value = text.value.as_str();
    if let Some(ty) = or_null(value) {
        let diagnostic = Diagnostic::error(
            codes::BAD_TYPE,
            text.span,
            "`|` goes between the values of an enum, not between types",
        );
        sink.push(
            diagnostic
                .label("`null` is not an enum value")
                .help(format!("a value that may be absent is `{ty}?`")),
        );
        return None;
    }
    if value.contains('|') && !value.contains('<') {
        return words(text, sink);
    }
    let mut parser = Parser { text, rest: value.trim_start(), depth: 0 };
    let result = parser.ty().and_then(|ty| match parser.rest.trim().is_empty() {
        true => Ok(ty),
        false => Err(parser.trailing()),
    });
    result.map_err(|diagnostic| sink.push(*diagnostic)).ok()
}

/// The type of `string | null`.
fn or_null(text: &str) -> Option<&str> {
    let (left, right) = text.split_once('|')?;
    let (left, right) = (left.trim(), right.trim());
    let is_type = |name: &str| {
        BASES.iter().any(|(base, _)| *base == name)
            || names::Kind::Type.accepts(name)
            || name.ends_with('>')
    };
    [(left, right), (right, left)]
        .into_iter()
        .find(|(ty, null)| *null == "null" && is_type(ty))
        .map(|(ty, _)| ty)
}

/// What a type of the language is called that others write in their way.
pub(crate) fn foreign(name: &str) -> Option<&'static str> {
    let ours = FOREIGN
        .iter()
        .find(|(foreign, _)| foreign.eq_ignore_ascii_case(name))
        .map(|(_, ours)| *ours);
    ours.or_else(|| {
        BASES.iter().map(|(base, _)| *base).find(|base| base.eq_ignore_ascii_case(name))
    })
}

/// `email | sms`: an enum.
fn words(text: &Text, sink: &mut Sink) -> Option<TypeExpr> {
    let mut words: Vec<Name> = Vec::new();
    let mut known: HashMap<&str, Span> = HashMap::new();
    let mut complete = true;
    let mut at = 0;
    let parts: Vec<&str> = text.value.split('|').collect();
    if parts.len() > WORDS_MAX {
        sink.push(
            Diagnostic::error(
                codes::LIMIT,
                text.span,
                format!("an enum of more than {WORDS_MAX} values"),
            )
            .label("too many values")
            .help("use `string`"),
        );
        return None;
    }
    for (index, part) in parts.iter().enumerate() {
        let word = part.trim();
        let start = at + part.len() - part.trim_start().len();
        at += part.len() + 1;
        let span = text.at(start..start + word.len());
        if let Some(bare) = word.strip_suffix('?').filter(|_| index + 1 == parts.len()) {
            sink.push(Diagnostic::error(codes::BAD_TYPE, span, "an enum in place cannot be optional").label("this `?`").help(format!(
                "name the enum under `types`, for instance `Name: {} | {bare}`, and write `Name?`",
                parts[..index].join("|").trim()
            )));
            complete = false;
        } else if let Some(earlier) = known.get(word) {
            sink.push(
                Diagnostic::error(
                    codes::WORD_TWICE,
                    span,
                    format!("the enum value `{word}` is written twice"),
                )
                .label("here again")
                .other(*earlier, "first here"),
            );
            complete = false;
        } else if word.is_empty() {
            sink.push(
                Diagnostic::error(codes::BAD_TYPE, text.span, "a value is missing beside `|`")
                    .label("an enum is written `email | sms`"),
            );
            return None;
        } else {
            match scalar::check_name(
                Name::new(word.to_owned(), span),
                names::Kind::Word,
                "an enum value",
                sink,
            ) {
                Some(name) => {
                    known.insert(word, span);
                    words.push(name);
                }
                None => complete = false,
            }
        }
    }
    complete.then_some(TypeExpr { shape: TypeShape::Enum(words), span: text.span })
}

struct Parser<'a> {
    text: &'a Text,
    rest: &'a str,
    depth: usize,
}

type Parsed<T> = Result<T, Box<Diagnostic>>;

impl Parser<'_> {
    fn ty(&mut self) -> Parsed<TypeExpr> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(self.wrong(self.rest.len(), "lists and maps are nested too deeply"));
        }
        let start = self.offset();
        let base = self.base()?;
        let ty = TypeExpr { shape: base, span: self.text.at(start..self.offset()) };
        self.depth -= 1;
        if !self.eat('?') {
            return Ok(ty);
        }
        if self.rest.starts_with('?') {
            return Err(self.wrong(1, "one `?` is enough"));
        }
        Ok(TypeExpr {
            shape: TypeShape::Optional(Box::new(ty)),
            span: self.text.at(start..self.offset()),
        })
    }

    fn base(&mut self) -> Parsed<TypeShape> {
        let len = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(self.rest.len());
        let (name, after) = self.rest.split_at(len);
        if name.is_empty() {
            let len = self.rest.chars().next().map_or(0, char::len_utf8);
            return Err(self.wrong(len, "a type is missing here"));
        }
        if matches!(name, "list" | "map") && after.trim_start().starts_with('<') {
            self.rest = after.trim_start().get(1..).unwrap_or_default().trim_start();
            let inner = Box::new(self.ty()?);
            self.rest = self.rest.trim_start();
            if !self.eat('>') {
                return Err(self.wrong(
                    self.rest.chars().next().map_or(0, char::len_utf8),
                    "the closing `>` is missing here",
                ));
            }
            return Ok(if name == "list" { TypeShape::List(inner) } else { TypeShape::Map(inner) });
        }
        if let Some((_, shape)) = BASES.iter().find(|(base, _)| *base == name) {
            self.rest = after;
            return Ok(shape.clone());
        }
        if names::Kind::Type.accepts(name) {
            self.rest = after;
            return Ok(TypeShape::Named(name.to_owned()));
        }
        Err(self.unknown(name, after))
    }

    fn unknown(&self, name: &str, after: &str) -> Box<Diagnostic> {
        let start = self.offset();
        let span = self.text.at(start..start + name.len());
        let diagnostic =
            Diagnostic::error(codes::BAD_TYPE, span, format!("there is no type `{name}`"))
                .label("unknown type");
        let foreign = foreign(name);
        let near =
            || suggest::nearest(name, BASES.iter().map(|(base, _)| *base).chain(["list", "map"]));
        Box::new(if name == "enum" {
            diagnostic.help("the values of an enum are written alone: `email | sms`")
        } else if after.starts_with("[]") {
            diagnostic.help(format!("a list type is written `list<{name}>`"))
        } else if let Some(ours) = foreign {
            diagnostic.help(format!("it is called `{ours}` here"))
        } else if let Some(near) = near() {
            diagnostic.help(format!("did you mean `{near}`?"))
        } else {
            let bases = list(BASES.iter().map(|(base, _)| *base).chain(["list<…>", "map<…>"]));
            diagnostic.note(format!("the types are {bases}; your own begin with a capital letter"))
        })
    }

    fn eat(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn offset(&self) -> usize {
        self.text.value.len() - self.rest.len()
    }

    /// Something stands behind the type.
    fn trailing(&self) -> Box<Diagnostic> {
        let diagnostic = self.wrong(self.rest.trim_end().len(), "a type ends before this");
        let before = &self.text.value[..self.offset()];
        if let Some(inner) =
            self.rest.trim_end().strip_prefix('<').and_then(|rest| rest.strip_suffix('>'))
        {
            let inner = inner.rsplit(',').next().unwrap_or(inner).trim();
            return match before.trim() {
                "Optional" | "Option" | "Maybe" | "Nullable" => {
                    Box::new(diagnostic.help(format!("a value that may be absent is `{inner}?`")))
                }
                "List" | "Array" | "Vec" | "Set" => {
                    Box::new(diagnostic.help(format!("a list type is written `list<{inner}>`")))
                }
                "Map" | "Dict" | "HashMap" | "Record" => Box::new(
                    diagnostic.help(format!("a map type is written `map<{inner}>`, from string")),
                ),
                _ => diagnostic,
            };
        }
        if self.rest.starts_with("[]") {
            Box::new(diagnostic.help(format!("a list type is written `list<{before}>`")))
        } else {
            diagnostic
        }
    }

    fn wrong(&self, len: usize, why: &str) -> Box<Diagnostic> {
        let start = self.offset();
        Box::new(
            Diagnostic::error(
                codes::BAD_TYPE,
                self.text.at(start..start + len),
                format!("`{}` is not a type", self.text.value),
            )
            .label(why),
        )
    }
}
