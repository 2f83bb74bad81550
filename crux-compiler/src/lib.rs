//! The Crux compiler: pipelines in, Rust source and diagnostics out.
//!
//! Pure: it opens no file, prints nothing and never panics on what it is given; only [`cargo`]
//! knows that there is a Cargo. The stages stand in [`compile`], each with all its diagnostics
//! before the next one begins. Start reading there, then `model` and `ir`, the two shapes that a
//! pipeline has between its text and its Rust.

pub mod bound;
pub mod builtins;
pub mod cargo;
pub mod check;
pub mod codes;
pub mod diagnostic;
pub mod emit;
pub mod expr;
pub mod folder;
pub mod graph;
pub mod ir;
#[cfg(test)]
mod layers;
pub mod lower;
pub mod model;
pub mod names;
pub mod parse;
pub mod render;
pub mod resolve;
pub mod schema;
pub mod secrets;
pub mod source;
pub mod suggest;
pub mod text;
pub mod tools;
pub mod types;
pub mod typing;
pub mod units;

use diagnostic::{Diagnostic, Sink};
use source::Files;

/// What the stages have found and made of a folder of pipelines.
#[derive(Debug)]
pub struct Outcome {
    /// `None` if there are errors.
    pub program: Option<ir::Program>,
    /// The generated files; `None` if there are errors or nobody has asked for them.
    pub rust: Option<Vec<emit::Source>>,
    /// Errors and warnings, in the order of files and places.
    pub diagnostics: Vec<Diagnostic>,
}

impl Outcome {
    /// Nothing could be made because of these.
    pub fn failed(diagnostics: Vec<Diagnostic>) -> Self {
        Self { program: None, rust: None, diagnostics }
    }

    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == diagnostic::Severity::Error)
    }
}

/// Everything that can be known of pipelines before Rust is made of them.
pub fn check(files: &Files) -> Outcome {
    let mut sink = Sink::default();
    let program = program(files, &mut sink);
    Outcome { program, rust: None, diagnostics: sink.into_sorted() }
}

/// The same, and the Rust that is made of them.
pub fn compile(files: &Files) -> Outcome {
    let checked = check(files);
    let rust = checked.program.as_ref().map(emit::rust);
    Outcome { rust, ..checked }
}

/// What stands in for the generated files as long as there have never been good ones: that of a
/// folder without pipelines.
pub(crate) fn skeleton() -> Vec<emit::Source> {
    let nothing = ir::Program {
        workflows: Vec::new(),
        contracts: Vec::new(),
        types: Vec::new(),
        events: Vec::new(),
        routes: Vec::new(),
    };
    emit::rust(&nothing)
}

/// The passes, in the only order in which each has what it asks for.
fn program(files: &Files, sink: &mut Sink) -> Option<ir::Program> {
    // Shapes first: whatever has one is an unbroken model, so no later pass asks what a value is.
    // After a syntax error the rest of the file is guesswork, and so would be every further word.
    let mut sources = parse::parse(files, sink);
    if sink.has_errors() {
        return None;
    }
    // Before names are looked up: what is not supported yet is refused by its own word, and files
    // of older versions are taken out, which would define the same names again.
    check::support(&mut sources, sink);
    // All files together, because types, events and step types are known across files. Types of
    // results are left open where only an expression tells them.
    let mut folder = resolve::resolve(files, &sources, sink);
    // What names, numbers and keys alone can tell. Before expressions are typed, so that a wrong
    // routing key or nesting is reported once and not after a hundred errors that follow from it.
    check::names(&folder, sink);
    // Types every expression, fills in what was left open, and takes both hashes last. It goes on
    // after errors: one wrong expression must not hide the others.
    let program = lower::lower(&mut folder, sink);
    // Needs the types that were left open, and who has used what; times need the whole program.
    check::lowered(&folder, program.as_ref(), sink);
    program.filter(|_| !sink.has_errors())
}
