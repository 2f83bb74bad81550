//! From texts to models: YAML with the place of every key and value, then the shapes of the
//! language. All that can be known of a file without looking at the others is reported here, all
//! errors of all files together; nothing is looked up and no default filled in.

mod file;
mod flow;
mod mapping;
mod policy;
mod scalar;
mod step;
mod synonyms;
mod syntax;
mod tree;
mod trigger;
pub(crate) mod types;
mod value;

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model;
use crate::source::{FileId, Files, Span};

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The models of all files. Files with errors may be missing; the errors are in the sink.
pub fn parse(files: &Files, sink: &mut Sink) -> Vec<model::File> {
    let mut models = Vec::new();
    for (id, file) in files.iter() {
        // A sink for each file, so that one with very many errors leaves room for the others.
        let mut of_file = Sink::default();
        models.extend(parse_file(id, &file.path, &file.text, &mut of_file));
        sink.append(of_file);
    }
    models
}

fn parse_file(id: FileId, path: &str, source: &str, sink: &mut Sink) -> Option<model::File> {
    let name = file::file_name(id, path, sink)?;
    if source.len() > FILE_BYTES_MAX {
        sink.push(
            Diagnostic::error(
                codes::LIMIT,
                Span { file: id, start: 0, end: 0 },
                format!("the file has {} bytes, more than {FILE_BYTES_MAX}", source.len()),
            )
            .help("split the pipeline into several files"),
        );
        return None;
    }
    let root = tree::read(id, source, sink);
    if root.is_none() && sink.has_errors() {
        return None;
    }
    file::file(id, name, root.as_ref(), sink)
}

#[cfg(test)]
pub(crate) use flow::COUNT_MAX;
#[cfg(test)]
pub(crate) use policy::FACTOR_MAX;

/// Every mapping of the language with its keys, for the test that the schema has the same.
#[cfg(test)]
pub(crate) const SHAPES: &[&mapping::Shape] = &[
    &file::WORKFLOW,
    &file::LIBRARY,
    &types::FIELD,
    &policy::STEP_TYPE,
    &policy::RETRY,
    &policy::TIMEOUT,
    &trigger::TRIGGER,
    &trigger::HOOKS,
    &step::WORK,
    &step::CHILD,
    &step::UNDO,
    &step::CATCH,
    &flow::GROUP,
    &flow::PARALLEL,
    &flow::SWITCH,
    &flow::EACH,
    &flow::REPEAT,
    &flow::WAIT,
    &flow::SLEEP,
    &flow::EMIT,
    &flow::FAIL,
    &flow::CASE,
    &flow::ELSE,
    &flow::MATCH,
    &flow::EACH_BODY,
    &flow::REPEAT_BODY,
    &flow::WAIT_BODY,
    &flow::SLEEP_BODY,
    &flow::EMIT_BODY,
    &flow::FAIL_BODY,
];
