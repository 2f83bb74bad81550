//! What is defined and never used: types, events and step types; and step types that are used and
//! were hardly meant.

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::resolve::Folder;
use crate::resolve::uses::uses;
use crate::source::Span;

pub fn check(folder: &Folder<'_>, sink: &mut Sink) {
    let mut unused = |what: &str, name: &str, span: Span| {
        let message = format!("the {what} `{name}` is never used");
        sink.push(
            Diagnostic::warning(codes::UNUSED, span, message).help("leave it out, or use it"),
        );
    };
    for decl in folder.types.unused() {
        unused("type", &decl.name.value, decl.name.span);
    }
    for (name, event) in folder.events.iter().filter(|(_, event)| event.declared && !event.used) {
        unused("event", name, event.span);
    }
    for (name, contract) in
        folder.contracts.iter().filter(|(_, contract)| contract.shared && !contract.used)
    {
        unused("step type", name, contract.span);
    }
    near(folder, sink);
}

/// Shorter names are near to many.
const NEAR_LENGTH_MIN: usize = 5;

/// A step type that says nowhere how it is done, and is called nearly like a declared one: a
/// service that nobody has.
fn near(folder: &Folder<'_>, sink: &mut Sink) {
    let declared = || folder.contracts.iter().filter(|(_, contract)| contract.shared);
    for found in uses(folder.sources) {
        let name = found.name.value.as_str();
        let says_how = found.contract.class.is_some() || found.contract.routing_key.is_some();
        if says_how
            || name.len() < NEAR_LENGTH_MIN
            || folder.contracts.get(name).is_none_or(|contract| contract.shared)
        {
            continue;
        }
        let Some((near, contract)) = declared().find(|(other, _)| is_one_letter_away(name, other))
        else {
            continue;
        };
        let message = format!("`{name}` is a separate step type, one letter away from `{near}`");
        let diagnostic = Diagnostic::warning(codes::STEP_TYPE_NEAR, found.name.span, message)
            .other(contract.span, format!("`{near}` is declared here"));
        sink.push(diagnostic.help(format!(
            "write `{near}` if it is meant; if not, a `routing_key` or `class` says so"
        )));
    }
}

/// Whether one letter is missing, added or another one, or two adjacent ones are swapped. Digits
/// number things: they are no slip.
fn is_one_letter_away(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let head = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[head..], &b[head..]);
    let tail = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[..a.len() - tail], &b[..b.len() - tail]);
    let is_letter = |bytes: &[u8]| bytes.iter().all(|b| b.is_ascii_alphabetic() || *b == b'_');
    is_letter(a)
        && is_letter(b)
        && match (a, b) {
            ([], [_]) | ([_], []) | ([_], [_]) => true,
            ([a, b], [c, d]) => a == d && b == c,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::is_one_letter_away;

    #[test]
    fn a_slip_is_distinguished_from_another_name() {
        for (a, b) in [
            ("charge_card", "charge_crad"),
            ("charge_card", "charge_cards"),
            ("chage", "charge"),
            ("charge", "chorge"),
        ] {
            assert!(is_one_letter_away(a, b) && is_one_letter_away(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("ship_1", "ship_2"),
            ("ship", "ship2"),
            ("charge", "refund"),
            ("aab", "aab"),
            ("abc", "cba"),
        ] {
            assert!(!is_one_letter_away(a, b), "{a} {b}");
        }
    }
}
