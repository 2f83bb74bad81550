//! Reads a folder of pipelines from the disk: the one place where the compiler opens files.
//! Everything behind it gets texts.

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

/// Reads `*.yaml`, and `*.yml` and `*.YAML` so that they can be refused by name. `shown` is the
/// folder as messages show it.
pub fn read(folder: &Path, shown: &str) -> Folder {
    let mut read = Vec::new();
    let mut unreadable: Vec<(String, String)> = Vec::new();
    let mut inside: Vec<(String, String)> = Vec::new();
    match names(folder) {
        Ok(Names { files, folders }) => {
            for (name, first) in folders {
                inside.push((format!("{shown}/{name}"), format!("{shown}/{name}/{first}")));
            }
            for name in files {
                let path = format!("{shown}/{name}");
                match std::fs::read_to_string(folder.join(&name)) {
                    Ok(text) => read.push(File { path, text }),
                    Err(error) => unreadable.push((path, reason(&error))),
                }
            }
        }
        Err(error) => unreadable.push((shown.to_owned(), reason(&error))),
    }
    let is_empty = read.is_empty() && unreadable.is_empty() && inside.is_empty();
    // Files without text, so that their problems have a place.
    let places = unreadable
        .iter()
        .chain(&inside)
        .map(|(path, _)| path.clone())
        .chain(is_empty.then(|| shown.to_owned()));
    read.extend(places.map(|path| File { path, text: String::new() }));
    let files = Files::new(read);
    let at = |path: &str| {
        let id = files.iter().find(|(_, file)| file.path == path).map_or(FileId(0), |(id, _)| id);
        Span { file: id, start: 0, end: 0 }
    };
    let problem = |(path, reason): (String, String)| {
        let at = at(&path);
        let help = if path == shown {
            "write the first pipeline there, or name another folder"
        } else {
            "make the file readable, as UTF-8"
        };
        Diagnostic::error(codes::FILE, at, format!("`{path}` cannot be read: {reason}")).help(help)
    };
    let mut problems: Vec<Diagnostic> = unreadable.into_iter().map(problem).collect();
    problems.extend(inside.into_iter().map(|(path, first)| {
        Diagnostic::error(
            codes::FOLDER_INSIDE,
            at(&path),
            format!("`{first}` is in a folder inside the folder of pipelines"),
        )
        .label("folders inside are not read")
        .help(format!("move its files to `{shown}`, or the folder `{path}` out of it"))
    }));
    if is_empty {
        let diagnostic = Diagnostic::error(
            codes::NO_PIPELINES,
            at(shown),
            format!("there are no pipelines in `{shown}`"),
        );
        problems.push(
            diagnostic
                .label("no `*.yaml` in it")
                .help("write the first pipeline there, or name another folder"),
        );
    }
    Folder { files, problems }
}

/// What is in a folder.
#[derive(Default)]
struct Names {
    files: Vec<String>,
    /// Folders with pipelines in them, with the first one.
    folders: Vec<(String, String)>,
}

fn names(folder: &Path) -> io::Result<Names> {
    let mut names = Names::default();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Editors keep their swap and backup files beside the real ones, most of them hidden.
        if name.starts_with('.') {
            continue;
        }
        if entry.path().is_dir() {
            names.folders.extend(pipeline_in(&entry.path()).map(|first| (name, first)));
        } else if is_pipeline(&name) {
            names.files.push(name);
        }
    }
    names.folders.sort();
    Ok(names)
}

/// Also what is misspelt: it is refused by name instead of being passed over.
fn is_pipeline(name: &str) -> bool {
    let extension = Path::new(name).extension().map(|extension| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// The first pipeline in a folder inside the folder. One that cannot be read holds none that
/// anybody has meant.
fn pipeline_in(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.') && is_pipeline(name)).min()
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
        for name in ["b.yaml", "a.yaml", "old.yml", "loud.YAML", ".a.yaml", "a.yaml~", "crux.lock"]
        {
            std::fs::write(folder.path().join(name), "x: 1\n").expect("a file");
        }
        for name in [".git", "pictures"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let read = read(folder.path(), "pipelines");
        let paths: Vec<&str> = read.files.iter().map(|(_, file)| file.path.as_str()).collect();
        assert_eq!(
            paths,
            ["pipelines/a.yaml", "pipelines/b.yaml", "pipelines/loud.YAML", "pipelines/old.yml"]
        );
        assert!(read.problems.is_empty());
    }

    #[test]
    fn pipelines_in_a_folder_inside_and_a_folder_without_any_are_errors() {
        let folder = tempfile::tempdir().expect("a folder");
        let shown = || {
            let read = read(folder.path(), "pipelines");
            render::human(&read.files, &read.problems, Style::Plain)
        };
        let text = shown();
        assert!(text.contains("error[CRUX0014]: there are no pipelines in `pipelines`"), "{text}");
        std::fs::write(folder.path().join("a.yaml"), "x: 1\n").expect("a file");
        std::fs::create_dir(folder.path().join("shop")).expect("a folder");
        std::fs::write(folder.path().join("shop/b.yaml"), "x: 1\n").expect("a file");
        let text = shown();
        assert!(
            text.contains("error[CRUX0013]: `pipelines/shop/b.yaml` is in a folder inside"),
            "{text}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("latin.yaml"), b"workflow: \xe9t\xe9\n").expect("a file");
        let read_folder = read(folder.path(), "pipelines");
        let text = render::human(&read_folder.files, &read_folder.problems, Style::Plain);
        assert!(
            text.contains(
                "`pipelines/latin.yaml` cannot be read: stream did not contain valid UTF-8"
            ),
            "{text}"
        );

        let missing = read(&folder.path().join("nowhere"), "nowhere");
        let text = render::human(&missing.files, &missing.problems, Style::Plain);
        assert!(
            text.contains("error[CRUX0010]: `nowhere` cannot be read: no such file or directory"),
            "{text}"
        );
    }
}
