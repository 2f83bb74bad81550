//! `sleep`, `emit` and `fail`: verbs without steps inside and without a result.

use super::walk::{Lowered, Walk};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::ir::{Expr, ExprKind, SleepUntil, Type, Verb};
use crate::model::{Entry, Name, Sleep};
use crate::resolve::{Event, errors, events};
use crate::text::Text;
use crate::typing::{NewTypes, StepResult};

impl Walk<'_, '_> {
    pub(super) fn sleep(&mut self, sleep: &Sleep) -> Lowered {
        let until = match sleep {
            Sleep::For { ms } => Some(SleepUntil::For { ms: ms.value }),
            Sleep::Until(until) => {
                self.checker().expression(until, &Type::Timestamp).and_then(|time| {
                    self.refuse_secret(&time, until.span, "the time of a `sleep`, which is shown")?;
                    Some(SleepUntil::Until(time))
                })
            }
        };
        Lowered {
            verb: until.map(Verb::Sleep),
            result: StepResult::None("a `sleep` has none".into()),
        }
    }

    pub(super) fn emit(&mut self, name: &Name, data: Option<&[Entry]>) -> Lowered {
        let entries = data.unwrap_or_default();
        let known = self.folder.events.get_mut(&name.value).map(|event| {
            event.used = true;
            event.ty.clone()
        });
        let data = match known {
            Some(Some(ty)) => {
                let owner = format!("the event `{}`", name.value);
                self.checker().record(entries, name.span, &ty, &owner)
            }
            // Its type is broken: the values may still have other errors.
            Some(None) => {
                self.checker().record_of_any_type(
                    entries,
                    name.span,
                    "Broken",
                    &mut NewTypes::default(),
                );
                None
            }
            None => self.emit_of_new_type(name, entries),
        };
        let data = data.and_then(|data| {
            self.refuse_secrets(
                &data,
                entries,
                name.span,
                "an event, which every subscriber gets",
            )?;
            Some(data)
        });
        let verb = data.map(|data| Verb::Emit {
            event: name.value.clone(),
            routing_key: name.value.clone(),
            data,
        });
        Lowered { verb, result: StepResult::None("an `emit` has none".into()) }
    }

    /// The first `emit` of an event that nobody declares gives it its type.
    fn emit_of_new_type(&mut self, name: &Name, entries: &[Entry]) -> Option<Expr> {
        let own = events::type_name(&name.value);
        let mut new = NewTypes { module: own.module, made: Vec::new() };
        let data = self.checker().record_of_any_type(entries, name.span, &own.name, &mut new);
        self.define(new);
        let ty = match data.as_ref().map(|data| &data.ty) {
            Some(Type::Record(record)) => Some(record.clone()),
            _ => None,
        };
        let event = Event { span: name.span, ty, declared: false, correlate: None, used: true };
        self.folder.events.insert(name.value.clone(), event);
        data
    }

    pub(super) fn fail(&mut self, error: &Name, message: Option<&Text>) -> Lowered {
        if errors::is_built_in(&error.value) {
            let said = format!("`{}` is an error of Crux itself", error.value);
            self.sink.push(
                Diagnostic::error(codes::ERROR_RESERVED, error.span, said)
                    .help("give the failure another name"),
            );
        }
        let message = match message {
            Some(text) => self.checker().template(text, &Type::String).and_then(|message| {
                self.refuse_secret(
                    &message,
                    text.span,
                    "the message of a failure, which is shown and logged",
                )?;
                Some(message)
            }),
            None => Some(Expr { ty: Type::String, kind: ExprKind::Text(String::new()) }),
        };
        let verb = message.map(|message| Verb::Fail { error: error.value.clone(), message });
        Lowered { verb, result: StepResult::None("a `fail` has none".into()) }
    }
}
