//! Values of YAML as they stand in `with`, `data`, `output` and `$default`: scalars, texts with
//! `${…}`, lists and records, checked against the type of their place, or with a type inferred from
//! them where nobody declares one.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Checker, literals};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::template::{Part, Template, split};
use crate::ir::{Expr, ExprKind, Field, Record, Type, TypeName};
use crate::model::{Entry, Value};
use crate::names;
use crate::secrets::{self, Secrecy};
use crate::source::{Span, Spanned};
use crate::text::Text;
use crate::types::{common, has_text, may_be_left_out, show};

/// Records that are inferred from values: where they belong, and those made so far.
#[derive(Debug, Default)]
pub struct NewTypes {
    /// The module of the new types.
    pub module: String,
    /// Each with the place of the value that it was made of.
    pub made: Vec<(Arc<Record>, Span)>,
}

impl Checker<'_> {
    /// A value that must fit `wanted`.
    pub fn value(&mut self, value: &Spanned<Value>, wanted: &Type) -> Option<Expr> {
        let of = |ty, kind| Expr { ty, kind };
        let found = match &value.value {
            Value::Null => return self.yaml_null(value.span, wanted),
            Value::Boolean(boolean) => of(Type::Boolean, ExprKind::Boolean(*boolean)),
            Value::Integer(integer) => of(Type::Integer, ExprKind::Integer(*integer)),
            Value::Number(number) => of(Type::Number, ExprKind::Number(*number)),
            Value::Text(text) => return self.template(text, wanted),
            Value::List(items) => return self.yaml_list(items, value.span, wanted),
            Value::Record(entries) => match wanted.present() {
                Type::Record(record) => {
                    let built = self.record(entries, value.span, record, &show(wanted))?;
                    return self.coerce(built, value.span, wanted);
                }
                Type::Map(element) => {
                    let element = (**element).clone();
                    return self.map(entries, value.span, &element, wanted);
                }
                Type::Json => return self.map(entries, value.span, &Type::Json, wanted),
                _ => {
                    let message = format!("expected {}, found record", show(wanted));
                    self.sink.push(
                        Diagnostic::error(codes::TYPE_MISMATCH, value.span, message)
                            .label("this is a record"),
                    );
                    return None;
                }
            },
        };
        if matches!(wanted.present(), Type::String | Type::Enum(_)) {
            let message = format!("expected {}, found {}", show(wanted), show(&found.ty));
            self.error(
                codes::TYPE_MISMATCH,
                value.span,
                message,
                Some("put the value in quotes".into()),
            );
            return None;
        }
        self.coerce(found, value.span, wanted)
    }

    /// The entries of a record of a known type. `owner` says what the record is, as in "`pack`
    /// takes".
    pub fn record(
        &mut self,
        entries: &[Entry],
        span: Span,
        record: &Arc<Record>,
        owner: &str,
    ) -> Option<Expr> {
        let mut complete = true;
        let fields: HashMap<&str, &Field> =
            record.fields.iter().map(|field| (field.name.as_str(), field)).collect();
        let mut values: HashMap<&str, Option<Expr>> = HashMap::new();
        for entry in entries {
            let Some(field) = fields.get(entry.name.value.as_str()) else {
                self.unknown_field(record, &entry.name, owner);
                complete = false;
                continue;
            };
            let value = self.value(&entry.value, &field.ty);
            if let Some(reason) =
                value.as_ref().and_then(|value| literals::broken_rule(value, field))
            {
                self.sink.push(
                    Diagnostic::error(codes::LITERAL, entry.value.span, reason)
                        .label("breaks a rule of its field"),
                );
                complete = false;
            }
            complete &= value.is_some();
            values.insert(&field.name, value);
        }
        let given = |field: &Field| values.contains_key(field.name.as_str());
        let missing: Vec<&Field> =
            record.fields.iter().filter(|field| !may_be_left_out(field) && !given(field)).collect();
        if let Some(first) = missing.first() {
            let names = missing
                .iter()
                .map(|field| format!("`{}`", field.name))
                .collect::<Vec<_>>()
                .join(", ");
            let noun = if missing.len() == 1 { "field" } else { "fields" };
            let help = format!("add `{}: …`, of type {}", first.name, show(&first.ty));
            self.error(
                codes::FIELD_MISSING,
                span,
                format!("{owner} needs the {noun} {names}"),
                Some(help),
            );
            complete = false;
        }
        if !complete {
            return None;
        }
        let fields = record.fields.iter().map(|field| {
            let value = values.remove(field.name.as_str()).flatten();
            let absent = || {
                field.default.clone().unwrap_or(Expr { ty: field.ty.clone(), kind: ExprKind::Null })
            };
            (field.name.clone(), value.unwrap_or_else(absent))
        });
        Some(Expr { ty: Type::Record(record.clone()), kind: ExprKind::Record(fields.collect()) })
    }

    fn map(
        &mut self,
        entries: &[Entry],
        span: Span,
        element: &Type,
        wanted: &Type,
    ) -> Option<Expr> {
        let fields: Vec<Option<(String, Expr)>> = entries
            .iter()
            .map(|entry| Some((entry.name.value.clone(), self.value(&entry.value, element)?)))
            .collect();
        let kind = ExprKind::Record(fields.into_iter().collect::<Option<_>>()?);
        self.coerce(Expr { ty: Type::Map(Box::new(element.clone())), kind }, span, wanted)
    }

    fn yaml_null(&mut self, span: Span, wanted: &Type) -> Option<Expr> {
        self.coerce(Expr { ty: wanted.clone().optional(), kind: ExprKind::Null }, span, wanted)
    }

    fn yaml_list(&mut self, items: &[Spanned<Value>], span: Span, wanted: &Type) -> Option<Expr> {
        let element = match wanted.present() {
            Type::List(element) => (**element).clone(),
            Type::Json => Type::Json,
            _ => {
                let message = format!("expected {}, found list", show(wanted));
                self.sink.push(
                    Diagnostic::error(codes::TYPE_MISMATCH, span, message).label("this is a list"),
                );
                return None;
            }
        };
        let items: Vec<Option<Expr>> =
            items.iter().map(|item| self.value(item, &element)).collect();
        let list = Expr {
            ty: Type::List(Box::new(element)),
            kind: ExprKind::List(items.into_iter().collect::<Option<_>>()?),
        };
        self.coerce(list, span, wanted)
    }

    /// A text that may hold `${…}` and must fit `wanted`.
    pub fn template(&mut self, text: &Text, wanted: &Type) -> Option<Expr> {
        let is_text = matches!(wanted.present(), Type::String | Type::Json);
        match if is_text { self.split_text(text)? } else { self.split(text)? } {
            Template::Whole(ast) => self.check(&ast, wanted),
            Template::Mixed(parts) => {
                let joined = self.interpolate(text, &parts);
                if !matches!(wanted.present(), Type::String | Type::Json) {
                    let message = format!("expected {}, found string", show(wanted));
                    let help = "a value that is one `${…}` and nothing else keeps its type";
                    self.error(codes::TYPE_MISMATCH, text.span, message, Some(help.into()));
                    return None;
                }
                self.coerce(joined?, text.span, wanted)
            }
            Template::Text(plain) => {
                let to = wanted.present();
                if !is_text && let Some(meant) = self.meant(text) {
                    let message = format!("expected {}, found string", show(wanted));
                    self.error(
                        codes::TYPE_MISMATCH,
                        text.span,
                        message,
                        Some(format!("for its value write `{meant}`")),
                    );
                    return None;
                }
                if matches!(to, Type::Timestamp | Type::Duration) {
                    return match literals::convert(&plain, to) {
                        Ok(kind) => self.coerce(Expr { ty: to.clone(), kind }, text.span, wanted),
                        Err(why) => {
                            self.not_convertible(text.span, &plain, to, &why);
                            None
                        }
                    };
                }
                if matches!(to, Type::Integer | Type::Number | Type::Boolean) {
                    let message = format!("expected {}, found string", show(wanted));
                    let is_literal = literals::convert(&plain, to).is_ok()
                        || matches!(plain.as_str(), "true" | "false");
                    let help = match to {
                        _ if is_literal => "leave out the quotes",
                        Type::Boolean => "write `true` or `false`, without quotes",
                        _ => "write `${…}` for an expression",
                    };
                    self.error(codes::TYPE_MISMATCH, text.span, message, Some(help.into()));
                    return None;
                }
                let found = self.text(&plain, text.span, Some(wanted))?;
                self.coerce(found, text.span, wanted)
            }
        }
    }

    fn split(&mut self, text: &Text) -> Option<Template> {
        split(text)
            .map_err(|errors| errors.into_iter().for_each(|error| self.sink.push(error)))
            .ok()
    }

    /// The same for a text that stays one where it is plain.
    fn split_text(&mut self, text: &Text) -> Option<Template> {
        let template = self.split(text)?;
        match &template {
            Template::Text(_) => self.warn_of_forgotten(text, true),
            Template::Mixed(_) => self.warn_of_forgotten(text, false),
            Template::Whole(_) => {}
        }
        Some(template)
    }

    fn interpolate(&mut self, text: &Text, parts: &[Part]) -> Option<Expr> {
        let parts: Vec<Option<Expr>> = parts
            .iter()
            .map(|part| {
                let ast = match part {
                    Part::Text(plain) => {
                        return Some(Expr {
                            ty: Type::String,
                            kind: ExprKind::Text(plain.clone()),
                        });
                    }
                    Part::Value(ast) => ast,
                };
                let value = self.infer(ast, None)?;
                if value.ty.is_optional() {
                    self.absent(
                        &value,
                        ast.span,
                        "a string cannot contain an absent value",
                        "give it a default: `${… ?? \"none\"}`",
                    );
                    return None;
                }
                if !has_text(&value.ty) {
                    let help = match &value.ty {
                        Type::List(of) if **of == Type::String => "write `xs.join(\", \")`",
                        Type::List(_) => "write `xs.map(x, string(x)).join(\", \")`",
                        Type::Record(_) | Type::Error => "name one of its fields",
                        _ => "pass it on as a separate value",
                    };
                    let message = format!("{} cannot be converted to a string", show(&value.ty));
                    self.sink.push(
                        Diagnostic::error(codes::NO_TEXT, ast.span, message)
                            .other(text.span, "inside this string")
                            .help(help),
                    );
                    return None;
                }
                Some(value)
            })
            .collect();
        Some(Expr {
            ty: Type::String,
            kind: ExprKind::Interpolate(parts.into_iter().collect::<Option<_>>()?),
        })
    }

    /// A value of whatever type it has. Records in it become types called `name` and longer.
    pub fn value_of_any_type(
        &mut self,
        value: &Spanned<Value>,
        name: &str,
        new: &mut NewTypes,
    ) -> Option<Expr> {
        let of = |ty, kind| Some(Expr { ty, kind });
        match &value.value {
            Value::Null => self.null(value.span, None),
            Value::Boolean(boolean) => of(Type::Boolean, ExprKind::Boolean(*boolean)),
            Value::Integer(integer) => of(Type::Integer, ExprKind::Integer(*integer)),
            Value::Number(number) => of(Type::Number, ExprKind::Number(*number)),
            Value::Text(text) => match self.split_text(text)? {
                Template::Text(plain) => of(Type::String, ExprKind::Text(plain)),
                Template::Whole(ast) => self.infer(&ast, None),
                Template::Mixed(parts) => self.interpolate(text, &parts),
            },
            Value::List(items) => self.list_of_any_type(items, value.span, name, new),
            Value::Record(entries) => self.record_of_any_type(entries, value.span, name, new),
        }
    }

    /// A record whose fields have the types of their values.
    pub fn record_of_any_type(
        &mut self,
        entries: &[Entry],
        span: Span,
        name: &str,
        new: &mut NewTypes,
    ) -> Option<Expr> {
        let entries: Vec<Option<(String, Expr)>> = entries
            .iter()
            .map(|entry| {
                let inner = format!("{name}{}", names::type_name(&entry.name.value));
                Some((entry.name.value.clone(), self.value_of_any_type(&entry.value, &inner, new)?))
            })
            .collect();
        let values = entries.into_iter().collect::<Option<Vec<_>>>()?;
        // A field of something secret is secret itself, where its type does not say so.
        let secret = |value: &Expr| {
            secrets::of(value, &self.scope.secrets).exceeds(&Secrecy::of_type(&value.ty))
        };
        let field = |(name, value): &(String, Expr)| Field {
            secret: secret(value),
            ..plain_field(name, value.ty.clone())
        };
        let fields = values.iter().map(field).collect();
        let record = Arc::new(Record {
            name: TypeName { module: new.module.clone(), name: name.to_owned() },
            fields,
        });
        new.made.push((record.clone(), span));
        Some(Expr { ty: Type::Record(record), kind: ExprKind::Record(values) })
    }

    fn list_of_any_type(
        &mut self,
        items: &[Spanned<Value>],
        span: Span,
        name: &str,
        new: &mut NewTypes,
    ) -> Option<Expr> {
        let mut found: Vec<(Option<Expr>, Span)> = Vec::new();
        let mut element: Option<Type> = None;
        for item in items {
            let value = match (&element, &item.value) {
                // The first record says what the others are.
                (Some(element), Value::Record(_) | Value::Null) => self.value(item, element),
                _ => self.value_of_any_type(item, &format!("{name}Item"), new),
            };
            if let Some(value) = &value {
                element = Some(match element {
                    None => value.ty.clone(),
                    Some(before) => common(&before, &value.ty).unwrap_or(before),
                });
            }
            found.push((value, item.span));
        }
        self.list_of(found, element, span, "declare the type with `takes`")
    }
}

/// A field without details.
pub(crate) fn plain_field(name: &str, ty: Type) -> Field {
    Field {
        name: name.to_owned(),
        ty,
        default: None,
        min: None,
        max: None,
        pattern: None,
        secret: false,
        description: None,
    }
}
