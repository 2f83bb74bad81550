//! From types as written to types as they are: names are looked up, records and enums in place get
//! a name, aliases are followed. A type never contains itself, and nests at most
//! [`MAX_NESTING`] levels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::ir::{Enum, Expr, ExprKind, Field, Place, Record, Shape, Type, TypeDef, TypeName};
use crate::model::{self, TypeDecl, TypeExpr, TypeShape};
use crate::names;
use crate::parse::types::foreign;
use crate::source::{Files, Span, Spanned};
use crate::suggest::nearest;
use crate::types::{NAMED, show};
use crate::typing::{Checker, Scope, broken_rule};

/// Deepest nesting of types; generated code and its derives nest as deep.
pub const MAX_NESTING: usize = 32;

/// All types of the folder, and the way to resolve more.
pub struct Types<'a> {
    files: &'a Files,
    declared: BTreeMap<&'a str, &'a TypeDecl>,
    /// `None`: its error has been reported.
    resolved: BTreeMap<&'a str, Option<Resolved>>,
    /// Names being resolved, to find circles.
    open: Vec<&'a str>,
    used: BTreeSet<&'a str>,
    /// Names that nobody defines, with the places that use them.
    unknown: BTreeMap<&'a str, Vec<Span>>,
    /// What needs a Rust type, in the order in which it was met, and where it stands.
    pub defs: Vec<(TypeDef, Span)>,
}

#[derive(Clone)]
struct Resolved {
    ty: Type,
    levels: usize,
}

impl<'a> Types<'a> {
    /// Takes all named types of the folder and resolves them.
    pub fn declare(files: &'a Files, sources: &'a [model::File], sink: &mut Sink) -> Self {
        let mut types = Types {
            files,
            declared: BTreeMap::new(),
            resolved: BTreeMap::new(),
            open: Vec::new(),
            used: BTreeSet::new(),
            unknown: BTreeMap::new(),
            defs: Vec::new(),
        };
        let all = sources.iter().flat_map(|file| &file.types);
        for decl in all.clone() {
            if let Some(first) = types.declared.get(decl.name.value.as_str()) {
                let message = format!("the type `{}` is defined twice", decl.name.value);
                let diagnostic = Diagnostic::error(codes::TYPE_TWICE, decl.name.span, message)
                    .other(first.name.span, "first here");
                sink.push(diagnostic.help(
                    "named types are global to the folder: leave one out, or give it another name",
                ));
            } else {
                types.declared.insert(&decl.name.value, decl);
            }
        }
        for decl in all {
            types.named(&decl.name.value, sink);
        }
        types
    }

    /// Where something stands, for people.
    pub fn place(&self, span: Span) -> Place {
        place(self.files, span)
    }

    /// The record that a type expression means; records in place are called `name`. Reports
    /// whatever is no record.
    pub fn record(
        &mut self,
        written: &'a TypeExpr,
        name: TypeName,
        what: &str,
        sink: &mut Sink,
    ) -> Option<Arc<Record>> {
        match self.resolve(written, name, sink)? {
            Type::Record(record) => Some(record),
            other => {
                let message = format!("{what} is a record, not {}", show(&other));
                sink.push(
                    Diagnostic::error(codes::TYPE_PLACE, written.span, message)
                        .help("write `{ name: type }`, or name a record"),
                );
                None
            }
        }
    }

    /// The type that a type expression means; records and enums in place are called `name` and
    /// longer.
    pub fn resolve(
        &mut self,
        written: &'a TypeExpr,
        name: TypeName,
        sink: &mut Sink,
    ) -> Option<Type> {
        self.expr(written, &name, None, sink).map(|resolved| resolved.ty)
    }

    /// Reports the types that nobody defines, each once, however many places use it.
    pub fn report_unknown(&self, sink: &mut Sink) {
        const SHOWN: usize = 3;
        for (name, places) in &self.unknown {
            let help = match (foreign(name), nearest(name, self.declared.keys().copied())) {
                (Some(ours), _) => format!("it is called `{ours}` here"),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => {
                    format!("define it: `types: {{ {name}: … }}`, in any file of the folder")
                }
            };
            let mut places = places.clone();
            places.sort_unstable();
            places.dedup();
            let Some((first, others)) = places.split_first() else { continue };
            let mut diagnostic = Diagnostic::error(
                codes::UNKNOWN_TYPE,
                *first,
                format!("there is no type `{name}`"),
            );
            for other in others.iter().take(SHOWN) {
                diagnostic = diagnostic.other(*other, "used here too");
            }
            if others.len() > SHOWN {
                diagnostic = diagnostic.note(format!("it is used in {} places", places.len()));
            }
            sink.push(diagnostic.help(help));
        }
    }

    /// Declared names that nothing has used since they were declared.
    pub fn unused(&self) -> impl Iterator<Item = &'a TypeDecl> {
        self.declared.iter().filter(|(name, _)| !self.used.contains(*name)).map(|(_, decl)| *decl)
    }

    pub fn define(
        &mut self,
        name: TypeName,
        description: Option<String>,
        span: Span,
        shape: Shape,
    ) {
        self.defs.push((TypeDef { name, description, place: self.place(span), shape }, span));
    }

    /// A record without fields, where nothing is declared.
    pub fn empty_record(&mut self, name: TypeName, span: Span) -> Arc<Record> {
        let record = Arc::new(Record { name: name.clone(), fields: Vec::new() });
        self.define(name, None, span, Shape::Record(record.clone()));
        record
    }

    fn named(&mut self, name: &'a str, sink: &mut Sink) -> Option<Resolved> {
        if let Some(known) = self.resolved.get(name) {
            return known.clone();
        }
        let decl = *self.declared.get(name)?;
        self.open.push(name);
        let own = TypeName { module: NAMED.into(), name: name.to_owned() };
        let resolved = self.expr(&decl.ty, &own, Some(decl), sink);
        self.open.pop();
        let resolved = resolved.filter(|resolved| {
            let optional = resolved.ty.is_optional();
            if optional {
                let message = format!("the type `{name}` is optional");
                sink.push(
                    Diagnostic::error(codes::TYPE_PLACE, decl.ty.span, message)
                        .help(format!("write `{name}?` where it is used")),
                );
            }
            !optional
        });
        if let Some(Resolved { ty, .. }) = &resolved
            && !matches!(&decl.ty.shape, TypeShape::Record(_) | TypeShape::Enum(_))
        {
            let description = decl.description.as_ref().map(|text| text.value.clone());
            self.define(own, description, decl.name.span, Shape::Alias(ty.clone()));
        }
        self.resolved.insert(name, resolved.clone());
        resolved
    }

    fn expr(
        &mut self,
        written: &'a TypeExpr,
        name: &TypeName,
        decl: Option<&'a TypeDecl>,
        sink: &mut Sink,
    ) -> Option<Resolved> {
        let one = |ty| Some(Resolved { ty, levels: 1 });
        let resolved = match &written.shape {
            TypeShape::String => one(Type::String),
            TypeShape::Integer => one(Type::Integer),
            TypeShape::Number => one(Type::Number),
            TypeShape::Boolean => one(Type::Boolean),
            TypeShape::Timestamp => one(Type::Timestamp),
            TypeShape::Duration => one(Type::Duration),
            TypeShape::Json => one(Type::Json),
            TypeShape::Optional(of) => self.wrap(of, name, sink, Type::optional),
            TypeShape::List(of) => self.wrap(of, name, sink, |ty| Type::List(Box::new(ty))),
            TypeShape::Map(of) => self.wrap(of, name, sink, |ty| Type::Map(Box::new(ty))),
            TypeShape::Named(other) => self.reference(other, written.span, sink),
            TypeShape::Enum(words) => {
                let words = Arc::new(Enum {
                    name: name.clone(),
                    words: words.iter().map(|word| word.value.clone()).collect(),
                });
                self.describe(name, decl, written.span, Shape::Enum(words.clone()));
                one(Type::Enum(words))
            }
            TypeShape::Record(fields) => self.fields(fields, name, decl, written.span, sink),
        }?;
        if resolved.levels > MAX_NESTING {
            let message = format!("this type nests more than {MAX_NESTING} levels deep");
            sink.push(
                Diagnostic::error(codes::TYPE_PLACE, written.span, message)
                    .help("pass what is inside as `json`, or flatten it"),
            );
            return None;
        }
        Some(resolved)
    }

    fn wrap(
        &mut self,
        of: &'a TypeExpr,
        name: &TypeName,
        sink: &mut Sink,
        wrap: impl Fn(Type) -> Type,
    ) -> Option<Resolved> {
        let inner = self.expr(of, name, None, sink)?;
        Some(Resolved { ty: wrap(inner.ty), levels: inner.levels + 1 })
    }

    fn reference(&mut self, name: &'a str, span: Span, sink: &mut Sink) -> Option<Resolved> {
        if let Some(start) = self.open.iter().position(|open| *open == name) {
            let circle = self.open.get(start..).unwrap_or_default().join(" → ");
            sink.push(
                Diagnostic::error(
                    codes::TYPE_RECURSIVE,
                    span,
                    format!("the type `{name}` contains itself"),
                )
                .note(format!("the circle is {circle} → {name}"))
                .help("types are finite: pass what is inside as `json`, or refer to it by an id"),
            );
            return None;
        }
        if self.open.len() > MAX_NESTING {
            let message = format!("types refer to each other over more than {MAX_NESTING} levels");
            sink.push(Diagnostic::error(codes::TYPE_PLACE, span, message).label("too deep"));
            return None;
        }
        let Some((declared, _)) = self.declared.get_key_value(name) else {
            self.unknown.entry(name).or_default().push(span);
            return None;
        };
        let declared = *declared;
        self.used.insert(declared);
        self.named(declared, sink)
    }

    fn fields(
        &mut self,
        written: &'a [model::Field],
        name: &TypeName,
        decl: Option<&'a TypeDecl>,
        span: Span,
        sink: &mut Sink,
    ) -> Option<Resolved> {
        let mut levels = 0;
        let mut fields = Vec::new();
        let mut complete = true;
        for field in written {
            let inner = TypeName {
                module: name.module.clone(),
                name: format!("{}{}", name.name, capitalised(&field.name.value)),
            };
            let Some(resolved) = self.expr(&field.ty, &inner, None, sink) else {
                complete = false;
                continue;
            };
            levels = levels.max(resolved.levels);
            match field_of(field, resolved.ty, sink) {
                Some(field) => fields.push(field),
                None => complete = false,
            }
        }
        if !complete {
            return None;
        }
        let record = Arc::new(Record { name: name.clone(), fields });
        self.describe(name, decl, span, Shape::Record(record.clone()));
        Some(Resolved { ty: Type::Record(record), levels: levels + 1 })
    }

    fn describe(&mut self, name: &TypeName, decl: Option<&TypeDecl>, span: Span, shape: Shape) {
        let description =
            decl.and_then(|decl| decl.description.as_ref()).map(|text| text.value.clone());
        self.define(name.clone(), description, decl.map_or(span, |decl| decl.name.span), shape);
    }
}

fn field_of(written: &model::Field, ty: Type, sink: &mut Sink) -> Option<Field> {
    let mut field = Field {
        name: written.name.value.clone(),
        ty,
        default: None,
        min: written.min.map(|min| min.value),
        max: written.max.map(|max| max.value),
        pattern: written.pattern.as_ref().map(|text| text.value.clone()),
        secret: written.secret,
        description: written.description.as_ref().map(|text| text.value.clone()),
    };
    rules_fit(written, &field.ty, sink)?;
    if let Some(pattern) = &written.pattern
        && let Err(error) = regex::Regex::new(&pattern.value)
    {
        let message = format!("`{}` is not a valid regular expression", pattern.value);
        // The last line says what is wrong; those before it draw the place, which is the whole text
        // here.
        let reason = error
            .to_string()
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        sink.push(Diagnostic::error(codes::LITERAL, pattern.span, message).label(reason));
        return None;
    }
    if let Some(default) = &written.default {
        // With a default it is never absent, whatever its type says.
        field.ty = field.ty.present().clone();
        field.default = Some(default_of(default, &field, sink)?);
    }
    Some(field)
}

/// `$min` and `$max` limit a length or a value, `$pattern` a string: other types have neither.
fn rules_fit(written: &model::Field, ty: &Type, sink: &mut Sink) -> Option<()> {
    let ty = ty.present();
    let limited =
        matches!(ty, Type::String | Type::List(_) | Type::Integer | Type::Number | Type::Duration);
    let counts = matches!(ty, Type::String | Type::List(_) | Type::Duration);
    let rules = [
        ("$min", written.min.map(|min| min.span), limited),
        ("$max", written.max.map(|max| max.span), limited),
        (
            "$pattern",
            written.pattern.as_ref().map(|pattern| pattern.span),
            matches!(ty, Type::String),
        ),
    ];
    let mut fits = true;
    for (rule, span, has) in rules {
        let Some(span) = span.filter(|_| !has) else { continue };
        let message = format!("`{}` is {}, which has no `{rule}`", written.name.value, show(ty));
        let label = if rule == "$pattern" {
            "a pattern is for a string"
        } else {
            "a limit is for a string, list, integer, number or duration"
        };
        let diagnostic = Diagnostic::error(codes::RULE_OF_TYPE, span, message).label(label);
        sink.push(match ty {
            Type::Map(_) | Type::Json | Type::Record(_) => {
                diagnostic.help("leave it out, and look at the value in the step")
            }
            _ => diagnostic.help("leave it out"),
        });
        fits = false;
    }
    if let Some(max) = written.max.filter(|max| counts && max.value.number() < 0.0) {
        let message =
            format!("no {} fits `$max: {}`: a length is never negative", show(ty), max.value);
        sink.push(
            Diagnostic::error(codes::RULE_OF_TYPE, max.span, message)
                .help("write the greatest length that is allowed"),
        );
        fits = false;
    }
    fits.then_some(())
}

fn default_of(written: &Spanned<model::Value>, field: &Field, sink: &mut Sink) -> Option<Expr> {
    let mut scope = Scope::nothing();
    let value = Checker { scope: &mut scope, sink }.value(written, &field.ty)?;
    if !is_constant(&value) {
        let diagnostic = Diagnostic::error(
            codes::DEFAULT_COMPUTED,
            written.span,
            "a `$default` is a plain value, not an expression",
        );
        sink.push(diagnostic.label("computed").help(
            "write the value itself; what depends on others is given by `with`, as in `${x ?? …}`",
        ));
        return None;
    }
    if let Some(reason) = broken_rule(&value, field) {
        sink.push(
            Diagnostic::error(codes::LITERAL, written.span, reason)
                .label("breaks a rule of its field"),
        );
        return None;
    }
    Some(value)
}

/// Whether a value is made of literals alone.
fn is_constant(value: &Expr) -> bool {
    match &value.kind {
        ExprKind::Text(_)
        | ExprKind::Integer(_)
        | ExprKind::Number(_)
        | ExprKind::Boolean(_)
        | ExprKind::Timestamp(_)
        | ExprKind::Duration { .. }
        | ExprKind::Null
        | ExprKind::Word(_) => true,
        ExprKind::List(items) => items.iter().all(is_constant),
        ExprKind::Record(fields) => fields.iter().all(|(_, field)| is_constant(field)),
        ExprKind::Coerce(inner) => is_constant(inner),
        _ => false,
    }
}

/// Where something stands, for people.
pub fn place(files: &Files, span: Span) -> Place {
    let (line, column) = files.position(span);
    Place {
        file: files.get(span.file).map(|file| file.path.clone()).unwrap_or_default(),
        line,
        column,
    }
}

/// The part of a type's name that a field gives to what stands in place.
fn capitalised(field: &str) -> String {
    names::type_name(field).trim_start_matches("r#").trim_end_matches('_').to_owned()
}
