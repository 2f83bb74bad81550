//! Texts that look like expressions whose `${…}` was forgotten, or was written as other systems do.
//! Only what would be a right expression in its place is one: a text that merely resembles one is
//! nobody's mistake.

use std::ops::Range;

use super::Checker;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::expr::{Ast, Kind, parse_part};
use crate::text::Text;

/// Longer texts are prose.
const BYTES_MAX: usize = 4096;

/// A part of a text, and the expression that it may have been meant as.
struct Suspect {
    at: Range<usize>,
    inner: Range<usize>,
    /// `$.x`, which other systems write for `input.x`.
    of_input: bool,
    /// In two pairs of braces.
    doubled: bool,
}

impl Checker<'_> {
    /// Warns of expressions in the plain parts of a text. `is_plain`: there is no `${…}` in it.
    pub(super) fn warn_of_forgotten(&mut self, text: &Text, is_plain: bool) {
        if let Some((at, meant)) = self.forgotten(text, is_plain) {
            let written = text.value.get(at.clone()).unwrap_or_default();
            let message = format!("`{written}` is only a string here");
            let diagnostic =
                Diagnostic::warning(codes::PLACEHOLDER_FORGOTTEN, text.at(at), message);
            self.sink.push(
                diagnostic
                    .label("it looks like an expression")
                    .help(format!("for its value write `{meant}`")),
            );
        }
    }

    /// What to write where a text as a whole was meant as an expression.
    pub(crate) fn meant(&self, text: &Text) -> Option<String> {
        self.forgotten(text, true)
            .filter(|(at, _)| *at == whole(&text.value))
            .map(|(_, meant)| meant)
    }

    fn forgotten(&self, text: &Text, is_plain: bool) -> Option<(Range<usize>, String)> {
        let value = text.value.as_str();
        if value.len() > BYTES_MAX || !value.contains('.') {
            return None;
        }
        let whole = is_plain.then(|| whole(value)).filter(|at| !at.is_empty());
        let whole =
            whole.map(|at| Suspect { inner: at.clone(), at, of_input: false, doubled: false });
        let suspects = whole.into_iter().chain(in_braces(value)).chain(after_dollar(value));
        suspects
            .into_iter()
            .find_map(|suspect| Some((suspect.at.clone(), self.expression_in(text, &suspect)?)))
    }

    /// The expression with its `${}`, if it is right where it stands.
    fn expression_in(&self, text: &Text, suspect: &Suspect) -> Option<String> {
        let inner = text.value.get(suspect.inner.clone())?.trim();
        if suspect.of_input {
            let assumed = Text::new(format!("input.{inner}"), text.span);
            return self
                .is_right(&parse_part(&assumed, 0..assumed.value.len()).ok()?)
                .then(|| format!("${{{}}}", assumed.value));
        }
        let ast = parse_part(text, suspect.inner.clone()).ok()?;
        // Another system's way, and a name that means nothing elsewhere.
        let is_foreign =
            suspect.doubled && ["input.", "steps."].iter().any(|root| inner.starts_with(root));
        (is_foreign || self.is_right(&ast)).then(|| format!("${{{inner}}}"))
    }

    fn is_right(&self, ast: &Ast) -> bool {
        if !self.reads(ast) {
            return false;
        }
        // What is tried leaves no trace.
        let (mut scope, mut sink) = (self.scope.clone(), Sink::default());
        let found = Checker { scope: &mut scope, sink: &mut sink }.infer(ast, None);
        found.is_some() && !sink.has_errors()
    }

    /// Whether some part of it reads a field of what can be read here.
    fn reads(&self, ast: &Ast) -> bool {
        match &ast.kind {
            Kind::Field { of, .. } => match &of.kind {
                Kind::Name(name) => self.scope.names().contains(&name.as_str()),
                _ => self.reads(of),
            },
            Kind::Index { of, .. } => self.reads(of),
            Kind::Call { receiver, args, .. } => {
                receiver.as_deref().is_some_and(|of| self.reads(of))
                    || args.iter().any(|arg| self.reads(arg))
            }
            Kind::Not(of) | Kind::Negate(of) => self.reads(of),
            Kind::Binary { left, right, .. } | Kind::Coalesce { left, right, .. } => {
                self.reads(left) || self.reads(right)
            }
            Kind::If { condition, then, other } => {
                [condition, then, other].into_iter().any(|part| self.reads(part))
            }
            Kind::List(_)
            | Kind::Text(_)
            | Kind::Integer(_)
            | Kind::Number(_)
            | Kind::Boolean(_)
            | Kind::Null
            | Kind::Name(_) => false,
        }
    }
}

/// Without blanks around it.
fn whole(value: &str) -> Range<usize> {
    let start = value.len() - value.trim_start().len();
    start..start + value.trim().len()
}

/// `{{ input.x }}` and `{input.x}`.
fn in_braces(value: &str) -> Vec<Suspect> {
    let mut found = Vec::new();
    let mut next = 0;
    while let Some(open) = value.get(next..).and_then(|rest| rest.find('{')).map(|at| next + at) {
        let Some(close) = value.get(open..).and_then(|rest| rest.find('}')).map(|at| open + at)
        else {
            break;
        };
        next = close + 1;
        if value.get(..open).is_some_and(|before| before.ends_with('$')) {
            continue;
        }
        let doubled = value.get(open..).is_some_and(|rest| rest.starts_with("{{"))
            && value.get(close..).is_some_and(|rest| rest.starts_with("}}"));
        let (inner, end) =
            if doubled { (open + 2..close, close + 2) } else { (open + 1..close, close + 1) };
        found.push(Suspect { at: open..end, inner, of_input: false, doubled });
    }
    found
}

/// `$input.x` anywhere, and `$.x` as a whole.
fn after_dollar(value: &str) -> Vec<Suspect> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let path = |start: usize| {
        let rest = value.get(start..).unwrap_or_default();
        let path = rest.get(..rest.find(|c| !is_path(c)).unwrap_or(rest.len())).unwrap_or_default();
        start..start + path.trim_end_matches('.').len()
    };
    let mut found: Vec<Suspect> = value
        .match_indices('$')
        .map(|(at, _)| path(at + 1))
        .filter(|inner| {
            inner.len() > 2
                && value.as_bytes().get(inner.start).is_some_and(u8::is_ascii_alphabetic)
        })
        .map(|inner| Suspect {
            at: inner.start - 1..inner.end,
            inner,
            of_input: false,
            doubled: false,
        })
        .collect();
    let all = whole(value);
    if value.get(all.clone()).is_some_and(|text| text.starts_with("$.")) {
        let inner = path(all.start + 2);
        if inner.end == all.end && !inner.is_empty() {
            found.push(Suspect { at: all, inner, of_input: true, doubled: false });
        }
    }
    found
}
