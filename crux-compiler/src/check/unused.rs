//! What is defined and never used: types, events and step types.

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::resolve::Folder;
use crate::source::Span;

pub fn check(folder: &Folder<'_>, sink: &mut Sink) {
    let mut unused = |what: &str, name: &str, span: Span| {
        let message = format!("the {what} `{name}` is never used");
        sink.push(Diagnostic::warning(codes::UNUSED, span, message).help("leave it out, or use it"));
    };
    for decl in folder.types.unused() {
        unused("type", &decl.name.value, decl.name.span);
    }
    for (name, event) in folder.events.iter().filter(|(_, event)| event.declared && !event.used) {
        unused("event", name, event.span);
    }
    for (name, contract) in folder.contracts.iter().filter(|(_, contract)| contract.shared && !contract.used) {
        unused("step type", name, contract.span);
    }
}
