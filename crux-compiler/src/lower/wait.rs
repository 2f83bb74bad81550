//! `wait`: the event, the value by which the router finds the waiting instance, and what else must
//! hold.

use super::walk::{Lowered, Walk};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::{Ast, Kind};
use crate::ir::{Expr, ExprKind, Op, Type, Verb};
use crate::model::{Expression, Name};
use crate::resolve::Event;
use crate::source::Spanned;
use crate::suggest::nearest;
use crate::types::{field, show};
use crate::typing::{Root, StepResult};

impl Walk<'_, '_> {
    pub(super) fn wait(
        &mut self,
        name: &Name,
        condition: Option<&Expression>,
        timeout_ms: Option<u64>,
    ) -> Lowered {
        let broken = Lowered { verb: None, result: StepResult::Broken };
        let Some(event) = self.folder.events.get_mut(&name.value) else {
            let help = match nearest(&name.value, self.folder.events.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it: `events: {{ {}: {{ … }} }}`", name.value),
            };
            let message = format!("the fields of the event `{}` are not declared", name.value);
            self.sink.push(Diagnostic::error(codes::UNKNOWN_EVENT, name.span, message).help(help));
            // Once is enough, however many waits there are.
            let event =
                Event { span: name.span, ty: None, declared: false, correlate: None, used: true };
            self.folder.events.insert(name.value.clone(), event);
            return broken;
        };
        event.used = true;
        let Some(event_type) = event.ty.clone() else { return broken };
        let result = StepResult::Type(Type::Record(event_type.clone()));
        self.scope.event = Root::Known(Type::Record(event_type.clone()));
        let checked = match condition {
            None => Some((None, None)),
            Some(condition) => self.where_(name, condition),
        };
        self.scope.event = Root::Missing;
        let verb = checked.map(|(correlate, condition)| Verb::Wait {
            event: name.value.clone(),
            event_type,
            correlate,
            condition,
            timeout_ms,
        });
        Lowered { verb, result }
    }

    /// The correlating value, and the rest of the condition.
    fn where_(
        &mut self,
        event: &Name,
        condition: &Expression,
    ) -> Option<(Option<Expr>, Option<Expr>)> {
        let ast = self.checker().parse(condition)?;
        let mut parts = Vec::new();
        conjuncts(&ast, &mut parts);
        let found = parts
            .iter()
            .enumerate()
            .find_map(|(at, part)| correlation(part).map(|(field, known)| (at, field, known)));
        let Some((at, event_field, known)) = found else {
            // The types first: a wrong condition is a plainer error than a missing one.
            self.checker().condition_of(&ast)?;
            let message = "this `where` compares no field of `event` with a value known here";
            let diagnostic = Diagnostic::error(codes::WHERE_CORRELATES, ast.span, message)
                .note("an event finds the instances that wait for it by one value")
                .help("begin with an equality, as in `event.orderId == input.orderId && …`");
            self.sink.push(diagnostic);
            return None;
        };
        let correlate = self.correlate(event, event_field, known);
        let mut rest: Option<Expr> = None;
        let mut complete = true;
        for (_, part) in parts.iter().enumerate().filter(|(other, _)| *other != at) {
            let Some(part) = self.checker().condition_of(part) else {
                complete = false;
                continue;
            };
            rest = Some(match rest {
                None => part,
                Some(before) => {
                    let kind = ExprKind::Binary {
                        op: Op::And,
                        left: Box::new(before),
                        right: Box::new(part),
                    };
                    Expr { ty: Type::Boolean, kind }
                }
            });
        }
        let correlate = correlate?;
        complete.then_some((Some(correlate), rest))
    }

    fn correlate(
        &mut self,
        event: &Name,
        event_field: &Spanned<String>,
        known: &Ast,
    ) -> Option<Expr> {
        let declared = self.folder.events.get_mut(&event.value)?;
        let record = declared.ty.clone()?;
        let Some(found) = field(&record, &event_field.value) else {
            let owner = format!("the event `{}`", event.value);
            self.checker().unknown_field(&record, event_field, &owner);
            return None;
        };
        match &declared.correlate {
            Some((other, first)) if *other != event_field.value => {
                let message = format!(
                    "waits for `{}` find it by two fields, `{other}` and `{}`",
                    event.value, event_field.value
                );
                let diagnostic =
                    Diagnostic::error(codes::EVENT_CORRELATED_TWICE, event_field.span, message)
                        .other(*first, format!("by `{other}` here"))
                        .note("events are kept and found by one value, the same for all waits");
                self.sink.push(diagnostic.help(format!(
                    "begin `where` with `event.{other} == …`; other comparisons may follow"
                )));
                return None;
            }
            Some(_) => {}
            None => declared.correlate = Some((event_field.value.clone(), event_field.span)),
        }
        if !matches!(found.ty, Type::String | Type::Integer | Type::Enum(_)) {
            let message = format!(
                "`event.{}` is {}: an event is found by a string, an integer or an enum value",
                found.name,
                show(&found.ty)
            );
            let diagnostic = Diagnostic::error(codes::WHERE_CORRELATES, event_field.span, message);
            let help = if found.ty.is_optional() {
                "make the field required, or compare another one first"
            } else {
                "compare another field first"
            };
            self.sink.push(diagnostic.help(help));
            return None;
        }
        let mut checker = self.checker();
        let value = checker.infer(known, Some(&found.ty))?;
        if value.ty.is_optional() {
            let help = "wait only where it is there, and give it a default that is then never used: `when: has(x)` on the `wait`, and `(x ?? \"\")` here";
            checker.absent(&value, known.span, "`where` needs a value that cannot be absent", help);
            return None;
        }
        let value = checker.coerce(value, known.span, &found.ty)?;
        let place = "the value that an event is found by, which is kept and shown";
        self.refuse_secret(&value, known.span, place)?;
        if found.secret {
            let message =
                format!("`event.{}` is secret: no event is found by a secret", found.name);
            let diagnostic = Diagnostic::error(codes::SECRET_SHOWN, event_field.span, message);
            self.sink.push(
                diagnostic
                    .label("`$secret` in its type")
                    .help("compare another field first, such as an id"),
            );
            return None;
        }
        Some(value)
    }
}

/// What `&&` joins at the top.
fn conjuncts<'e>(ast: &'e Ast, parts: &mut Vec<&'e Ast>) {
    match &ast.kind {
        Kind::Binary { op, left, right } if op.value == Op::And => {
            conjuncts(left, parts);
            conjuncts(right, parts);
        }
        _ => parts.push(ast),
    }
}

/// `event.field == known` in either order, where `known` does not read the event.
fn correlation(ast: &Ast) -> Option<(&Spanned<String>, &Ast)> {
    let Kind::Binary { op, left, right } = &ast.kind else { return None };
    if op.value != Op::Equal {
        return None;
    }
    [(left, right), (right, left)].into_iter().find_map(|(field, known)| match &field.kind {
        Kind::Field { of, name, optional: false, .. } if is_event(of) && !reads_event(known) => {
            Some((name, &**known))
        }
        _ => None,
    })
}

fn is_event(ast: &Ast) -> bool {
    matches!(&ast.kind, Kind::Name(name) if name == "event")
}

fn reads_event(ast: &Ast) -> bool {
    let mut reads = false;
    ast.walk(&mut |part| reads |= is_event(part));
    reads
}
