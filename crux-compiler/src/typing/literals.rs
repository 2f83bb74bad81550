//! Literals that get their meaning from the type of their place: words of enums, times written as
//! text, lists, `null`.

use super::Checker;
use crate::bound::Bound;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::Ast;
use crate::ir::{Expr, ExprKind, Field, Type};
use crate::source::Span;
use crate::suggest::nearest;
use crate::types::{common, show};
use crate::units;

/// A text as a value of another type, or why it is none.
pub fn convert(text: &str, to: &Type) -> Result<ExprKind, String> {
    match to {
        Type::Integer => text
            .trim()
            .parse()
            .map(ExprKind::Integer)
            .map_err(|_| "digits only, at most 64 bits".into()),
        Type::Number => match text.trim().parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(ExprKind::Number(value)),
            _ => Err("it does not read as a number".into()),
        },
        Type::Timestamp => match text.parse::<jiff::Timestamp>() {
            Ok(value) => Ok(ExprKind::Timestamp(value.as_microsecond())),
            Err(_) => Err("times are written as in `2026-08-21T14:25:36Z`".into()),
        },
        Type::Duration => {
            let ms = units::parse_duration(text).map_err(|error| error.to_string())?;
            Ok(ExprKind::Duration {
                ms: i64::try_from(ms).map_err(|_| "it is too long".to_owned())?,
            })
        }
        _ => Err(format!("a string cannot be converted to {}", show(to))),
    }
}

/// Why a literal breaks `$min`, `$max` or `$pattern` of its field; `None` if it does not, or is no
/// literal.
pub fn broken_rule(value: &Expr, field: &Field) -> Option<String> {
    if let (ExprKind::Text(text), Some(pattern)) = (&value.kind, &field.pattern)
        && regex::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
    {
        return Some(format!("`{text}` does not match `$pattern: {pattern}` of `{}`", field.name));
    }
    let (size, what) = match &value.kind {
        ExprKind::Coerce(inner) => return broken_rule(inner, field),
        ExprKind::Integer(value) => (Bound::Whole(*value), "its value"),
        ExprKind::Number(value) => (Bound::Number(*value), "its value"),
        ExprKind::Duration { ms } => (Bound::Number(*ms as f64 / 1000.0), "its length in seconds"),
        ExprKind::Text(text) => (Bound::Number(text.chars().count() as f64), "its length"),
        ExprKind::List(items) => (Bound::Number(items.len() as f64), "its length"),
        _ => return None,
    };
    let name = &field.name;
    match (field.min, field.max) {
        (Some(min), _) if size < min => {
            Some(format!("{what} is {size}, and `{name}` has `$min: {min}`"))
        }
        (_, Some(max)) if size > max => {
            Some(format!("{what} is {size}, and `{name}` has `$max: {max}`"))
        }
        _ => None,
    }
}

impl Checker<'_> {
    /// A text: a word, where an enum is wanted.
    pub(super) fn text(&mut self, value: &str, span: Span, hint: Option<&Type>) -> Option<Expr> {
        let Some(Type::Enum(words)) = hint.map(Type::present) else {
            return Some(Expr { ty: Type::String, kind: ExprKind::Text(value.to_owned()) });
        };
        if words.words.iter().any(|word| word == value) {
            return Some(Expr {
                ty: Type::Enum(words.clone()),
                kind: ExprKind::Word(value.to_owned()),
            });
        }
        let help = match nearest(value, words.words.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its values are {}", words.words.join(", ")),
        };
        self.error(codes::ENUM_WORD, span, words.refusal(value), Some(help));
        None
    }

    pub(super) fn not_convertible(&mut self, span: Span, text: &str, to: &Type, why: &str) {
        let message = format!("`{text}` is not a valid {}", show(to));
        let meant = if *to == Type::Duration { units::meant_duration(text) } else { None };
        let diagnostic = Diagnostic::error(codes::LITERAL, span, message).label(why.to_owned());
        self.sink.push(match meant {
            Some(ms) => diagnostic.help(format!("write `{}`", units::format_duration(ms))),
            None => diagnostic,
        });
    }

    pub(super) fn null(&mut self, span: Span, hint: Option<&Type>) -> Option<Expr> {
        let Some(hint) = hint else {
            let help = Some(
                "say the type where the value goes to (`takes`), or leave the value out".into(),
            );
            self.error(codes::TYPE_UNKNOWABLE, span, "the type of this `null` is unknown", help);
            return None;
        };
        Some(Expr { ty: hint.clone().optional(), kind: ExprKind::Null })
    }

    pub(super) fn list(&mut self, items: &[Ast], span: Span, hint: Option<&Type>) -> Option<Expr> {
        let wanted = match hint.map(Type::present) {
            Some(Type::List(element)) => Some((**element).clone()),
            Some(Type::Json) => Some(Type::Json),
            _ => None,
        };
        // Each item is inferred once, whatever becomes of the others: twice would be exponential in
        // nested lists.
        let mut found = Vec::new();
        let mut element = wanted.clone();
        for item in items {
            let value = self.infer(item, element.as_ref());
            if let (Some(value), None) = (&value, &wanted) {
                element = match element {
                    None => Some(value.ty.clone()),
                    Some(before) => Some(common(&before, &value.ty).unwrap_or(before)),
                };
            }
            found.push((value, item.span));
        }
        self.list_of(found, element, span, "say the type where the value goes to (`takes`)")
    }

    /// A list of what has been found, with where each stands; `help`: what gives an empty list a
    /// type.
    pub(super) fn list_of(
        &mut self,
        found: Vec<(Option<Expr>, Span)>,
        element: Option<Type>,
        span: Span,
        help: &str,
    ) -> Option<Expr> {
        let Some(element) = element else {
            if found.is_empty() {
                let message = "the type of the elements of `[]` is unknown";
                self.error(codes::TYPE_UNKNOWABLE, span, message, Some(help.to_owned()));
            }
            return None;
        };
        let items: Vec<Option<Expr>> =
            found.into_iter().map(|(value, span)| self.coerce(value?, span, &element)).collect();
        Some(Expr {
            ty: Type::List(Box::new(element)),
            kind: ExprKind::List(items.into_iter().collect::<Option<_>>()?),
        })
    }
}
