//! Diagnostics as values, and the sink that stages push them into. No stage stops at its first
//! error; a stage does not begin while the sink holds errors of the one before.

use crate::source::Span;

/// `CRUX0001` …; each has a page in `docs/errors` and a row in [`crate::codes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CRUX{:04}", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// What is wrong, where, why and how to fix it. Texts are lower case without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    pub message: String,
    pub span: Span,
    /// Says what is at `span`; may be empty.
    pub label: String,
    pub others: Vec<(Span, String)>,
    /// Reasons.
    pub notes: Vec<String>,
    /// Fixes.
    pub helps: Vec<String>,
}

impl Diagnostic {
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, span, message.into())
    }

    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, span, message.into())
    }

    fn new(severity: Severity, code: Code, span: Span, message: String) -> Self {
        Self {
            code,
            severity,
            message,
            span,
            label: String::new(),
            others: Vec::new(),
            notes: Vec::new(),
            helps: Vec::new(),
        }
    }

    /// Texts may quote what the user wrote, which may be of any length.
    fn bounded(mut self) -> Self {
        let texts = [&mut self.message, &mut self.label]
            .into_iter()
            .chain(self.others.iter_mut().map(|(_, label)| label));
        for text in texts.chain(&mut self.notes).chain(&mut self.helps) {
            if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
                text.truncate(end);
                text.push('…');
            }
        }
        self
    }

    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub fn other(mut self, span: Span, label: impl Into<String>) -> Self {
        self.others.push((span, label.into()));
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.helps.push(help.into());
        self
    }
}

/// Most diagnostics that one sink keeps. With more, a reader fixes the first ones and
/// comes back.
pub const KEPT_MAX: usize = 1000;

/// Longest text of a diagnostic, in characters.
const TEXT_CHARS_MAX: usize = 600;

/// Collects diagnostics.
#[derive(Debug, Default)]
pub struct Sink {
    all: Vec<Diagnostic>,
    errors: usize,
}

impl Sink {
    /// Beyond [`KEPT_MAX`] they are counted only.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.errors += usize::from(diagnostic.severity == Severity::Error);
        if !self.is_full() {
            self.all.push(diagnostic.bounded());
        }
    }

    pub fn append(&mut self, mut other: Sink) {
        self.errors += other.errors;
        self.all.append(&mut other.all);
    }

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there are so far.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Whether the work for one more diagnostic is in vain.
    pub fn is_full(&self) -> bool {
        self.all.len() >= KEPT_MAX
    }

    /// In the order of files and places.
    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.all.sort_by(|a, b| (a.span, a.code, &a.message).cmp(&(b.span, b.code, &b.message)));
        self.all.dedup();
        self.all
    }
}
