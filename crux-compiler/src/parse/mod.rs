//! From texts to models: YAML with the place of every key and value, then the shapes of the language. All that can be known of a file
//! without looking at the others is reported here, all errors of all files at once; nothing is looked up and no default filled in.

mod file;
mod flow;
mod mapping;
mod policy;
mod scalar;
mod step;
mod syntax;
mod tree;
mod trigger;
mod types;
mod value;

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model;
use crate::source::{FileId, Files, Span};

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The models of all files. Files with errors may be missing; the errors are in the sink.
pub fn parse(files: &Files, sink: &mut Sink) -> Vec<model::File> {
    files.iter().filter_map(|(id, file)| parse_file(id, &file.path, &file.text, sink)).collect()
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
    let mut inner = Sink::default();
    let root = tree::read(id, source, &mut inner);
    let unreadable = root.is_none() && inner.has_errors();
    sink.append(inner);
    if unreadable { None } else { file::file(id, name, root.as_ref(), sink) }
}
