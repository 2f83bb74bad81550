//! Reads a folder of pipelines from the disk: the one place where the compiler opens files. Everything behind it gets texts.

use std::io;
use std::path::Path;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::source::{File, FileId, Files, Span};

/// The files of a folder, and what could not be read of it.
#[derive(Debug)]
pub struct Folder {
    pub files: Files,
    /// If not empty, compiling what is left would report names that stand in the missing files.
    pub problems: Vec<Diagnostic>,
}

/// Reads `*.yaml`, and `*.yml` so that they can be refused by name. `shown` is the folder as messages show it.
pub fn read(folder: &Path, shown: &str) -> Folder {
    let mut read = Vec::new();
    let mut unreadable: Vec<(String, String)> = Vec::new();
    match names(folder) {
        Ok(names) => {
            for name in names {
                let path = format!("{shown}/{name}");
                match std::fs::read_to_string(folder.join(&name)) {
                    Ok(text) => read.push(File { path, text }),
                    Err(error) => unreadable.push((path, reason(&error))),
                }
            }
        }
        Err(error) => unreadable.push((shown.to_owned(), reason(&error))),
    }
    // A file without text, so that its problem has a place.
    read.extend(unreadable.iter().map(|(path, _)| File { path: path.clone(), text: String::new() }));
    let files = Files::new(read);
    let problem = |(path, reason): (String, String)| {
        let id = files.iter().find(|(_, file)| file.path == path).map_or(FileId(0), |(id, _)| id);
        let at = Span { file: id, start: 0, end: 0 };
        let mend =
            if path == shown { "write the first pipeline there, or name another folder" } else { "make the file readable, as UTF-8" };
        Diagnostic::error(codes::FILE, at, format!("`{path}` cannot be read: {reason}")).help(mend)
    };
    let problems = unreadable.into_iter().map(problem).collect();
    Folder { files, problems }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Editors keep their swap and backup files beside the real ones, most of them hidden.
        if (name.ends_with(".yaml") || name.ends_with(".yml")) && !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

/// Lower case, without the number that the operating system adds.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{self, Style};

    #[test]
    fn files_are_read_by_name_and_others_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b.yaml", "a.yaml", "old.yml", ".a.yaml", "a.yaml~", "crux.lock"] {
            std::fs::write(folder.path().join(name), "x: 1\n").expect("a file");
        }
        let read = read(folder.path(), "pipelines");
        let paths: Vec<&str> = read.files.iter().map(|(_, file)| file.path.as_str()).collect();
        assert_eq!(paths, ["pipelines/a.yaml", "pipelines/b.yaml", "pipelines/old.yml"]);
        assert!(read.problems.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("latin.yaml"), b"workflow: \xe9t\xe9\n").expect("a file");
        let read_folder = read(folder.path(), "pipelines");
        let text = render::human(&read_folder.files, &read_folder.problems, Style::Plain);
        assert!(text.contains("`pipelines/latin.yaml` cannot be read: stream did not contain valid UTF-8"), "{text}");

        let missing = read(&folder.path().join("nowhere"), "nowhere");
        let text = render::human(&missing.files, &missing.problems, Style::Plain);
        assert!(text.contains("error[CRUX0010]: `nowhere` cannot be read: no such file or directory"), "{text}");
    }
}
