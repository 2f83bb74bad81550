//! The type checker of expressions: trees of `expr` and values of YAML in, [`Expr`] out. It is
//! bidirectional: a wanted type goes down as a hint for literals (a text becomes a word of an enum,
//! `null` an absent value), the found type comes up, and [`Checker::coerce`] is the only place
//! where one meets the other. `None` means that an error has been reported; nobody reports it
//! twice.

mod access;
mod calls;
mod literals;
mod operators;
mod placeholders;
pub mod scope;
#[cfg(test)]
mod tests;
mod values;

use crate::codes;
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::expr::{self, Ast, Kind};
use crate::ir::{Expr, ExprKind, Function, Type, Value};
use crate::source::Span;
use crate::text::Text;
use crate::types::{self, TypeMismatch, fits, same, show};

pub use literals::broken_rule;
pub use scope::{Root, Scope, Standing, StepResult, VisibleStep};
pub use values::NewTypes;

/// Checks the expressions of one place.
pub struct Checker<'a> {
    pub scope: &'a mut Scope,
    pub sink: &'a mut Sink,
}

impl Checker<'_> {
    /// A bare expression of a wanted type.
    pub fn expression(&mut self, text: &Text, wanted: &Type) -> Option<Expr> {
        let ast = self.parse(text)?;
        self.check(&ast, wanted)
    }

    /// A bare expression of any type.
    pub fn expression_of_any_type(&mut self, text: &Text) -> Option<(Expr, Ast)> {
        let ast = self.parse(text)?;
        Some((self.infer(&ast, None)?, ast))
    }

    /// A bare expression that decides something. A literal decides nothing.
    pub fn condition(&mut self, text: &Text) -> Option<Expr> {
        let ast = self.parse(text)?;
        self.condition_of(&ast)
    }

    pub(crate) fn parse(&mut self, text: &Text) -> Option<Ast> {
        expr::parse(text).map_err(|error| self.sink.push(*error)).ok()
    }

    pub(crate) fn condition_of(&mut self, ast: &Ast) -> Option<Expr> {
        if let Kind::Boolean(value) = ast.kind {
            self.sink.push(
                Diagnostic::error(
                    codes::CONDITION_LITERAL,
                    ast.span,
                    format!("this condition is always {value}"),
                )
                .help(if value {
                    "leave the condition out"
                } else {
                    "leave out what never runs"
                }),
            );
            return None;
        }
        self.check(ast, &Type::Boolean)
    }

    /// A value that must fit `wanted`.
    pub(crate) fn check(&mut self, ast: &Ast, wanted: &Type) -> Option<Expr> {
        let found = self.infer(ast, Some(wanted))?;
        self.coerce(found, ast.span, wanted)
    }

    /// A value of whatever type it has; the hint is what the place would like, for literals that
    /// have no type.
    pub(crate) fn infer(&mut self, ast: &Ast, hint: Option<&Type>) -> Option<Expr> {
        let of = |ty, kind| Some(Expr { ty, kind });
        match &ast.kind {
            Kind::Text(value) => self.text(value, ast.span, hint),
            Kind::Integer(value) => of(Type::Integer, ExprKind::Integer(*value)),
            Kind::Number(value) => of(Type::Number, ExprKind::Number(*value)),
            Kind::Boolean(value) => of(Type::Boolean, ExprKind::Boolean(*value)),
            Kind::Null => self.null(ast.span, hint),
            Kind::List(items) => self.list(items, ast.span, hint),
            Kind::Name(name) => self.name(name, ast.span),
            Kind::Field { of, name, optional, dot } => self.field(of, name, *optional, *dot),
            Kind::Index { of, index } => self.index(of, index),
            Kind::Call { receiver: Some(receiver), function, args } => {
                self.method(receiver, function, args)
            }
            Kind::Call { receiver: None, function, args } => {
                self.function(function, args, ast.span)
            }
            Kind::Not(of) => {
                let of = self.condition_of(of)?;
                Some(Expr { ty: Type::Boolean, kind: ExprKind::Not(Box::new(of)) })
            }
            Kind::Negate(of) => self.negate(of),
            Kind::Binary { op, left, right } => self.binary(*op, left, right),
            Kind::Coalesce { left, right, op } => self.coalesce(left, right, *op, hint),
            Kind::If { condition, then, other } => self.choice(condition, then, other, hint),
        }
    }

    /// Makes a value fit a place, or says why it does not.
    pub(crate) fn coerce(&mut self, found: Expr, span: Span, wanted: &Type) -> Option<Expr> {
        if same(&found.ty, wanted) {
            return Some(found);
        }
        if found.kind == ExprKind::Null && wanted.is_optional() {
            return Some(Expr { ty: wanted.clone(), kind: ExprKind::Null });
        }
        if found.kind == ExprKind::Null {
            let message = format!("expected {}, found `null`", show(wanted));
            self.error(
                codes::TYPE_MISMATCH,
                span,
                message,
                Some("only an optional value can be absent".into()),
            );
            return None;
        }
        let misfit = match fits(&found.ty, wanted) {
            Ok(()) => {
                return Some(Expr { ty: wanted.clone(), kind: ExprKind::Coerce(Box::new(found)) });
            }
            Err(misfit) => misfit,
        };
        if misfit == TypeMismatch::Absent && found.ty.is_optional() {
            self.absent(
                &found,
                span,
                &format!("expected {}", show(wanted)),
                "give it a default: `… ?? default`",
            );
            return None;
        }
        let mut diagnostic = Diagnostic::error(
            codes::TYPE_MISMATCH,
            span,
            format!("expected {}, found {}", show(wanted), show(&found.ty)),
        )
        .label(format!("this is {}", show(&found.ty)));
        diagnostic.notes.extend(misfit.reason());
        diagnostic.helps.extend(conversion(&found, wanted));
        self.sink.push(diagnostic);
        None
    }

    /// Reports that `found`, at `span`, may be absent.
    pub(crate) fn absent(&mut self, found: &Expr, span: Span, label: &str, help: &str) {
        let diagnostic = Diagnostic::error(
            codes::MAY_BE_ABSENT,
            span,
            format!("this may be absent: it is {}", show(&found.ty)),
        );
        let diagnostic = self.with_reason(diagnostic.label(label.to_owned()), found);
        self.sink.push(diagnostic.help(help.to_owned()));
    }

    /// Adds why a value may be absent, as far as it is known.
    fn with_reason(&self, mut diagnostic: Diagnostic, found: &Expr) -> Diagnostic {
        match &found.kind {
            ExprKind::Value(Value::Step(id)) => {
                if let Some(known) = self.scope.steps.as_ref().and_then(|steps| steps.get(id)) {
                    if let Standing::Maybe(why) = &known.standing {
                        diagnostic.notes.push(why.clone());
                    }
                    diagnostic = diagnostic.other(known.place, "this step may not have run");
                }
            }
            ExprKind::Field { of, .. } if of.ty.is_optional() => {
                return self.with_reason(diagnostic, of);
            }
            ExprKind::Field { name, .. } => {
                diagnostic.notes.push(format!("`{name}` is optional in its type"))
            }
            ExprKind::Coerce(inner) => return self.with_reason(diagnostic, inner),
            ExprKind::Coalesce { right, .. } => return self.with_reason(diagnostic, right),
            ExprKind::Index { of, .. } if matches!(of.ty, Type::Map(_)) => {
                diagnostic.notes.push("a map may not have the key".into())
            }
            ExprKind::Index { .. } => {
                diagnostic.notes.push("a list may be shorter than that".into())
            }
            ExprKind::Call { function: Function::Min | Function::Max, .. } => {
                diagnostic
                    .notes
                    .push("an empty list has no smallest and no greatest element".into());
            }
            ExprKind::Call {
                function:
                    Function::ToInteger
                    | Function::ToNumber
                    | Function::ToTimestamp
                    | Function::ToDuration,
                ..
            } => {
                diagnostic.notes.push("not every string can be converted".into());
            }
            _ => {}
        }
        diagnostic
    }

    pub(crate) fn error(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        let mut diagnostic = Diagnostic::error(code, span, message);
        diagnostic.helps.extend(help);
        self.sink.push(diagnostic);
    }
}

const JSON_IS_OPAQUE: &str =
    "json is opaque: declare its type where it comes from, or read it in a step";

/// `an integer`, `a list<string>`; records and enums without a name stay as they are.
fn article(shown: &str) -> String {
    match shown.chars().next() {
        Some('{' | '(') => shown.to_owned(),
        _ if shown.contains(" | ") || shown.starts_with("json") => shown.to_owned(),
        Some('a' | 'e' | 'i' | 'o' | 'A' | 'E' | 'I' | 'O') => format!("an {shown}"),
        _ => format!("a {shown}"),
    }
}

/// How one type is made of another.
fn conversion(found: &Expr, wanted: &Type) -> Option<String> {
    Some(match (&found.ty, wanted.present()) {
        (Type::String, to @ (Type::Timestamp | Type::Duration))
            if matches!(found.kind, ExprKind::Text(_)) =>
        {
            format!("write `{}(\"…\")`", show(to))
        }
        (Type::Json, _) => JSON_IS_OPAQUE.into(),
        (Type::Number, Type::Integer) => "write `integer(…)`, which truncates".into(),
        (Type::String, to @ (Type::Integer | Type::Number | Type::Timestamp | Type::Duration)) => {
            format!("write `{}(…) ?? default`: not every string can be converted", show(to))
        }
        (Type::String, Type::Enum(words)) => {
            format!(
                "a string may be none of the enum values ({}): compare it and give one of them",
                words.words.join(", ")
            )
        }
        (from, Type::String) if types::has_text(from) => "write `string(…)`".into(),
        (from, Type::List(of)) if same(from, of) => "write `[…]` around it".into(),
        _ => return None,
    })
}
