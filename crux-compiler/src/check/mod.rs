//! What the build proves beyond shapes and types, one family of rules per file. The families look
//! at the resolved names and at the model; only [`times`] also needs the finished program. None of
//! them changes anything.

mod collisions;
mod effects;
mod flow;
mod nesting;
mod raises;
mod routing;
mod times;
mod unsupported;
mod unused;

use crate::diagnostic::Sink;
use crate::ir::Program;
use crate::model;
use crate::resolve::Folder;

pub use times::{Bound, bound};

/// Refuses by name what is not supported yet, and takes out the files that only later versions can
/// compile.
pub fn support(sources: &mut Vec<model::File>, sink: &mut Sink) {
    unsupported::check(sources, sink);
    sources.retain(|file| file.retired_version.is_none());
}

/// What can be said before any step is lowered.
pub fn names(folder: &Folder<'_>, sink: &mut Sink) {
    routing::check(folder, sink);
    nesting::check(folder, sink);
    flow::check(folder, sink);
    effects::check(folder, sink);
    times::check(folder, sink);
}

/// What can be said once all types are known: also the inferred ones, and who used what.
pub fn lowered(folder: &Folder<'_>, program: Option<&Program>, sink: &mut Sink) {
    collisions::check(folder, sink);
    // After errors, what looks unused may only stand behind one of them.
    if !sink.has_errors() {
        unused::check(folder, sink);
    }
    if let Some(program) = program {
        times::against_deadline(folder, program, sink);
    }
}
