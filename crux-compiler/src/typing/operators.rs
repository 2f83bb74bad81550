//! Operators: which types they take and what they give. Integers and numbers do not mix, times have
//! their own arithmetic, and nothing that may be absent is computed with; absent values are
//! only compared, defaulted and passed on.

use super::{Checker, article, literals};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::{Ast, Kind};
use crate::ir::{Expr, ExprKind, Op, Type};
use crate::source::{Span, Spanned};
use crate::types::{common, fits, same, show};

impl Checker<'_> {
    pub(super) fn binary(&mut self, op: Spanned<Op>, left: &Ast, right: &Ast) -> Option<Expr> {
        match op.value {
            Op::And | Op::Or => {
                let (left, right) = (self.condition_of(left), self.condition_of(right));
                Some(binary(op.value, left?, right?, Type::Boolean))
            }
            Op::Equal | Op::NotEqual => self.equality(op, left, right),
            Op::Less | Op::LessEqual | Op::Greater | Op::GreaterEqual => {
                self.order(op, left, right)
            }
            Op::In => self.membership(op.span, left, right),
            Op::Add | Op::Subtract | Op::Multiply | Op::Divide | Op::Remainder => {
                self.arithmetic(op, left, right)
            }
        }
    }

    fn equality(&mut self, op: Spanned<Op>, left: &Ast, right: &Ast) -> Option<Expr> {
        self.refuse_two_literals(op, left, right)?;
        let (left_expr, right_expr) = self.both(left, right)?;
        if let Some((null, other)) = null_and_other(left, right, &left_expr, &right_expr)
            && !other.ty.is_optional()
        {
            self.error(
                codes::NEVER_ABSENT,
                null,
                format!("this is never absent: it is {}", show(&other.ty)),
                Some("leave out the comparison with `null`".into()),
            );
            return None;
        }
        let ty = if mixes_numbers(&left_expr.ty, &right_expr.ty) {
            None
        } else {
            common(&left_expr.ty, &right_expr.ty)
        };
        let Some(ty) = ty else {
            self.operands(op, (left, &left_expr), (right, &right_expr));
            return None;
        };
        let left = self.coerce(left_expr, left.span, &ty);
        let right = self.coerce(right_expr, right.span, &ty);
        Some(binary(op.value, left?, right?, Type::Boolean))
    }

    fn order(&mut self, op: Spanned<Op>, left: &Ast, right: &Ast) -> Option<Expr> {
        self.refuse_two_literals(op, left, right)?;
        let (left_expr, right_expr) = self.present_both(op, left, right)?;
        let ordered = matches!(
            left_expr.ty,
            Type::Integer | Type::Number | Type::String | Type::Timestamp | Type::Duration
        );
        if !ordered || !same(&left_expr.ty, &right_expr.ty) {
            self.operands(op, (left, &left_expr), (right, &right_expr));
            return None;
        }
        Some(binary(op.value, left_expr, right_expr, Type::Boolean))
    }

    fn arithmetic(&mut self, op: Spanned<Op>, left: &Ast, right: &Ast) -> Option<Expr> {
        let (left_expr, right_expr) = self.present_both(op, left, right)?;
        use Type::{Duration, Integer, List, Number, String, Timestamp};
        let ty = match (op.value, &left_expr.ty, &right_expr.ty) {
            (_, Integer, Integer) => Some(Integer),
            (_, Number, Number) => Some(Number),
            (Op::Add, String, String) => Some(String),
            (Op::Add, List(_), List(_)) if same(&left_expr.ty, &right_expr.ty) => {
                Some(left_expr.ty.clone())
            }
            (Op::Add | Op::Subtract, Timestamp, Duration) => Some(Timestamp),
            (Op::Add | Op::Subtract, Duration, Duration) => Some(Duration),
            (Op::Subtract, Timestamp, Timestamp) => Some(Duration),
            _ => None,
        };
        let Some(ty) = ty else {
            self.operands(op, (left, &left_expr), (right, &right_expr));
            return None;
        };
        let is_division = matches!(op.value, Op::Divide | Op::Remainder);
        if is_division && is_zero(&right_expr) {
            self.error(
                codes::ALWAYS_FAILS,
                right.span,
                "a division by zero always fails",
                Some("divide by something else".into()),
            );
            return None;
        }
        let known = [integer(&left_expr), integer(&right_expr)].iter().all(Option::is_some);
        let computed = binary(op.value, left_expr, right_expr, ty);
        if known && integer(&computed).is_none() {
            let message = format!(
                "`{}` of these always fails: the result does not fit into 64 bits",
                op.value.symbol()
            );
            self.error(
                codes::ALWAYS_FAILS,
                Span { end: right.span.end, ..left.span },
                message,
                Some("compute with numbers, as in `1.0`".into()),
            );
            return None;
        }
        Some(computed)
    }

    fn membership(&mut self, op: Span, left: &Ast, right: &Ast) -> Option<Expr> {
        // The side that is no literal says what the other's words and elements are.
        let (element, among) = if right.is_literal() {
            let element = self.infer(left, None)?;
            let hint = Type::List(Box::new(element.ty.present().clone()));
            (element, self.infer(right, Some(&hint))?)
        } else {
            let among = self.infer(right, None)?;
            let hint = match among.ty.present() {
                Type::List(of) => Some((**of).clone()),
                _ => None,
            };
            (self.infer(left, hint.as_ref())?, among)
        };
        let wanted = match &among.ty {
            Type::List(of) => (**of).clone(),
            Type::Map(_) => Type::String,
            Type::Optional(_) => {
                self.absent(
                    &among,
                    right.span,
                    "`in` needs a value that cannot be absent",
                    "give it a default: `x in (xs ?? [])`",
                );
                return None;
            }
            other => {
                let diagnostic = Diagnostic::error(
                    codes::OPERAND_TYPE,
                    op,
                    format!("`in` looks into a list or a map, not into {}", article(&show(other))),
                )
                .other(right.span, format!("this is {}", show(other)));
                let help =
                    matches!(other, Type::String).then(|| "write `text.contains(part)`".to_owned());
                self.sink.push(help.into_iter().fold(diagnostic, Diagnostic::help));
                return None;
            }
        };
        if element.ty.is_optional() && !wanted.is_optional() {
            self.absent(
                &element,
                left.span,
                "`in` needs a value that cannot be absent",
                "give it a default: `(x ?? default) in xs`",
            );
            return None;
        }
        if mixes_numbers(&element.ty, &wanted) {
            self.operands(Spanned::new(Op::In, op), (left, &element), (right, &among));
            return None;
        }
        let element = self.coerce(element, left.span, &wanted)?;
        Some(binary(Op::In, element, among, Type::Boolean))
    }

    pub(super) fn negate(&mut self, of: &Ast) -> Option<Expr> {
        let value = self.infer(of, None)?;
        if value.ty.is_optional() {
            self.absent(
                &value,
                of.span,
                "`-` needs a value that cannot be absent",
                "give it a default: `-(x ?? 0)`",
            );
            return None;
        }
        if !matches!(value.ty, Type::Integer | Type::Number) {
            let message =
                format!("`-` takes an integer or a number, not {}", article(&show(&value.ty)));
            self.sink.push(
                Diagnostic::error(codes::OPERAND_TYPE, of.span, message)
                    .label(format!("this is {}", show(&value.ty))),
            );
            return None;
        }
        Some(Expr { ty: value.ty.clone(), kind: ExprKind::Negate(Box::new(value)) })
    }

    pub(super) fn coalesce(
        &mut self,
        left: &Ast,
        right: &Ast,
        op: Span,
        hint: Option<&Type>,
    ) -> Option<Expr> {
        let left_expr = self.infer(left, hint)?;
        let Type::Optional(inner) = &left_expr.ty else {
            let message =
                format!("`??` after what is never absent: this is {}", show(&left_expr.ty));
            let diagnostic = Diagnostic::error(codes::NEVER_ABSENT, op, message)
                .other(left.span, "always there");
            self.sink.push(diagnostic.help("leave out `??` and what follows it"));
            return None;
        };
        let inner = (**inner).clone();
        let right_expr = self.infer(right, Some(&inner))?;
        let Some(present) = common(&inner, right_expr.ty.present()) else {
            // Says how the default misses the type of what it stands in for.
            self.coerce(right_expr, right.span, &inner);
            return None;
        };
        let ty =
            if right_expr.ty.is_optional() { present.clone().optional() } else { present.clone() };
        let left_expr = self.coerce(left_expr, left.span, &present.optional())?;
        let right_expr = self.coerce(right_expr, right.span, &ty)?;
        Some(Expr {
            ty,
            kind: ExprKind::Coalesce { left: Box::new(left_expr), right: Box::new(right_expr) },
        })
    }

    pub(super) fn choice(
        &mut self,
        condition: &Ast,
        then: &Ast,
        other: &Ast,
        hint: Option<&Type>,
    ) -> Option<Expr> {
        let condition = self.condition_of(condition);
        let (then_expr, other_expr) = match hint {
            // A place may take more than one type: what `null` is absent of, the other branch says.
            Some(hint) if matches!(then.kind, Kind::Null) => {
                let other = self.infer(other, Some(hint))?;
                (self.infer(then, Some(&other.ty)), Some(other))
            }
            Some(hint) if matches!(other.kind, Kind::Null) => {
                let then = self.infer(then, Some(hint))?;
                let other = self.infer(other, Some(&then.ty));
                (Some(then), other)
            }
            Some(hint) => (self.infer(then, Some(hint)), self.infer(other, Some(hint))),
            None => self
                .both(then, other)
                .map_or((None, None), |(then, other)| (Some(then), Some(other))),
        };
        let (condition, then_expr, other_expr) = (condition?, then_expr?, other_expr?);
        let Some(ty) = common(&then_expr.ty, &other_expr.ty) else {
            let message = format!(
                "one branch is {}, the other {}",
                show(&then_expr.ty),
                show(&other_expr.ty)
            );
            let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, other.span, message);
            self.sink
                .push(diagnostic.label(show(&other_expr.ty)).other(then.span, show(&then_expr.ty)));
            return None;
        };
        let then = Box::new(self.coerce(then_expr, then.span, &ty)?);
        let other = Box::new(self.coerce(other_expr, other.span, &ty)?);
        Some(Expr { ty, kind: ExprKind::If { condition: Box::new(condition), then, other } })
    }

    /// Two values that should be of one type; the one that is no literal says what the other's
    /// literals mean.
    fn both(&mut self, left: &Ast, right: &Ast) -> Option<(Expr, Expr)> {
        if left.is_literal() && !right.is_literal() {
            let right = self.infer(right, None)?;
            let left = self.infer(left, Some(&right.ty))?;
            return Some((left, right));
        }
        let left_expr = self.infer(left, None);
        let right_expr = self.infer(right, left_expr.as_ref().map(|left| &left.ty));
        Some((left_expr?, right_expr?))
    }

    fn present_both(&mut self, op: Spanned<Op>, left: &Ast, right: &Ast) -> Option<(Expr, Expr)> {
        let (left_expr, right_expr) = self.both(left, right)?;
        let mut present = true;
        for (ast, found) in [(left, &left_expr), (right, &right_expr)] {
            if found.ty.is_optional() {
                present = false;
                let symbol = op.value.symbol();
                self.absent(
                    found,
                    ast.span,
                    &format!("`{symbol}` needs a value that cannot be absent"),
                    &format!("give it a default: `(… ?? default) {symbol} …`"),
                );
            }
        }
        present.then_some((left_expr, right_expr))
    }

    fn refuse_two_literals(&mut self, op: Spanned<Op>, left: &Ast, right: &Ast) -> Option<()> {
        if left.is_literal() && right.is_literal() {
            let message = "both sides of this comparison are literals: it never changes";
            self.error(
                codes::CONDITION_LITERAL,
                op.span,
                message,
                Some("compare with `input` or with the result of a step".into()),
            );
            return None;
        }
        Some(())
    }

    fn operands(&mut self, op: Spanned<Op>, left: (&Ast, &Expr), right: (&Ast, &Expr)) {
        let (left_type, right_type) = (show(&left.1.ty), show(&right.1.ty));
        let symbol = op.value.symbol();
        let message = if same(&left.1.ty, &right.1.ty) {
            format!("`{symbol}` does not take {}", article(&left_type))
        } else {
            format!("`{symbol}` does not take {} and {}", article(&left_type), article(&right_type))
        };
        let diagnostic = Diagnostic::error(codes::OPERAND_TYPE, op.span, message)
            .other(left.0.span, left_type)
            .other(right.0.span, right_type);
        let help = operand_help(op.value, left, right);
        self.sink.push(help.into_iter().fold(diagnostic, Diagnostic::help));
    }
}

fn binary(op: Op, left: Expr, right: Expr, ty: Type) -> Expr {
    Expr { ty, kind: ExprKind::Binary { op, left: Box::new(left), right: Box::new(right) } }
}

/// The value of an integer that is computed of literals alone; `None` also where it would fail.
fn integer(expr: &Expr) -> Option<i64> {
    match &expr.kind {
        ExprKind::Integer(value) => Some(*value),
        ExprKind::Negate(of) => integer(of)?.checked_neg(),
        ExprKind::Binary { op, left, right } => {
            let (left, right) = (integer(left)?, integer(right)?);
            match op {
                Op::Add => left.checked_add(right),
                Op::Subtract => left.checked_sub(right),
                Op::Multiply => left.checked_mul(right),
                Op::Divide => left.checked_div(right),
                Op::Remainder => left.checked_rem(right),
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_zero(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(value) => *value == 0.0,
        ExprKind::Negate(of) => is_zero(of),
        _ => integer(expr) == Some(0),
    }
}

/// Integer and number mix only through `number()`.
fn mixes_numbers(left: &Type, right: &Type) -> bool {
    matches!(
        (left.present(), right.present()),
        (Type::Integer, Type::Number) | (Type::Number, Type::Integer)
    )
}

fn null_and_other<'e>(
    left: &Ast,
    right: &Ast,
    left_expr: &'e Expr,
    right_expr: &'e Expr,
) -> Option<(Span, &'e Expr)> {
    match (&left.kind, &right.kind) {
        (Kind::Null, _) => Some((left.span, right_expr)),
        (_, Kind::Null) => Some((right.span, left_expr)),
        _ => None,
    }
}

fn operand_help(op: Op, left: (&Ast, &Expr), right: (&Ast, &Expr)) -> Option<String> {
    let types = (left.1.ty.present(), right.1.ty.present());
    for ((ast, expr), other) in [(left, types.1), (right, types.0)] {
        match (&ast.kind, expr.ty.present(), other) {
            (Kind::Integer(value), _, Type::Number) => return Some(format!("write `{value}.0`")),
            (Kind::Text(value), _, Type::Timestamp | Type::Duration) => {
                let is_time = |to: &Type| literals::convert(value, to).is_ok();
                return Some(match other {
                    _ if is_time(&Type::Duration) => format!("write `duration(\"{value}\")`"),
                    Type::Timestamp if is_time(&Type::Timestamp) => {
                        format!("write `timestamp(\"{value}\")`")
                    }
                    Type::Timestamp => format!(
                        "write `timestamp(\"{value}\")`, with a time as in `2026-08-21T14:25:36Z`"
                    ),
                    _ => "write `duration(\"5m\")`".to_owned(),
                });
            }
            (Kind::Text(value), _, to @ (Type::Integer | Type::Number))
                if literals::convert(value, to).is_ok() =>
            {
                return Some(format!("write `{value}` without quotes"));
            }
            (Kind::Text(value), _, Type::Boolean) if matches!(value.as_str(), "true" | "false") => {
                return Some(format!("write `{value}` without quotes"));
            }
            (_, Type::Integer, Type::Number) => {
                return Some("integer and number mix only through `number(…)`".into());
            }
            (_, Type::Json, _) => return Some(super::JSON_IS_OPAQUE.into()),
            _ => {}
        }
    }
    match (op, types) {
        (Op::Add, (Type::String, other) | (other, Type::String))
            if crate::types::has_text(other) =>
        {
            Some("join strings with `string(…)`, or write a string with `${…}` in it".into())
        }
        (Op::Add, (Type::Duration, Type::Timestamp)) => Some("write the timestamp first".into()),
        (Op::Multiply | Op::Divide, (Type::Duration, _) | (_, Type::Duration)) => {
            Some("durations are added and subtracted only".into())
        }
        (_, (Type::Enum(words), Type::String) | (Type::String, Type::Enum(words))) => {
            Some(format!("an enum compares with its own values only: {}", words.words.join(", ")))
        }
        (_, (Type::Enum(_), Type::Enum(_))) if fits(types.0, types.1).is_err() => {
            Some("they are different enums".into())
        }
        _ => None,
    }
}
