//! Where secrets may not go: to what finds, names or announces something, which is kept and shown
//! as it is.

use super::walk::Walk;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::ir::{Expr, ExprKind, Record};
use crate::model::Entry;
use crate::secrets::{self, Secrecy, SecrecyScope};
use crate::source::Span;
use crate::typing::Scope;

/// Refuses a secret. `place`: what it must not get into, and why.
pub(super) fn refuse(
    scope: &Scope,
    sink: &mut Sink,
    value: &Expr,
    span: Span,
    place: &str,
) -> Option<()> {
    if !secrets::of(value, &scope.secrets).any() {
        return Some(());
    }
    let diagnostic = Diagnostic::error(codes::SECRET_SHOWN, span, format!("a secret in {place}"));
    sink.push(
        diagnostic
            .label("made of a field with `$secret`")
            .help("use a value that is not secret, such as an id"),
    );
    None
}

impl Walk<'_, '_> {
    pub(super) fn refuse_secret(&mut self, value: &Expr, span: Span, place: &str) -> Option<()> {
        refuse(&self.scope, self.sink, value, span, place)
    }

    /// The same, for each of the fields of a record.
    pub(super) fn refuse_secrets(
        &mut self,
        value: &Expr,
        entries: &[Entry],
        span: Span,
        place: &str,
    ) -> Option<()> {
        let ExprKind::Record(fields) = &value.kind else {
            return self.refuse_secret(value, span, place);
        };
        let mut is_open = Some(());
        for (name, field) in fields {
            let span = entries
                .iter()
                .find(|entry| entry.name.value == *name)
                .map_or(span, |entry| entry.value.span);
            if self.refuse_secret(field, span, place).is_none() {
                is_open = None;
            }
        }
        is_open
    }
}

/// Warns of secrets that get into fields which are not marked as secret: from there on nothing
/// masks them.
pub(super) fn unmarked(
    known: &SecrecyScope,
    sink: &mut Sink,
    value: &Expr,
    record: &Record,
    entries: &[Entry],
    owner: &str,
) {
    let ExprKind::Record(fields) = &value.kind else { return };
    for (name, field) in fields {
        let Some(entry) = entries.iter().find(|entry| entry.name.value == *name) else { continue };
        let Some(declared) = record.fields.iter().find(|declared| declared.name == *name) else {
            continue;
        };
        if declared.secret || !secrets::of(field, known).exceeds(&Secrecy::of_type(&declared.ty)) {
            continue;
        }
        let message = format!("`{name}` of {owner} gets a secret and is not marked as one");
        let diagnostic = Diagnostic::warning(codes::SECRET_UNMARKED, entry.value.span, message);
        sink.push(
            diagnostic
                .label("made of a field with `$secret`")
                .help(format!("declare it so: `{name}: {{ $type: …, $secret: true }}`")),
        );
    }
}
