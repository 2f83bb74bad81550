//! What the command line shows of pipelines without building them. Each function gives text; who calls it prints it and sets the exit
//! code.

use std::path::Path;

use crate::render::{self, Style};
use crate::{Outcome, folder, schema};

/// What `crux check` has to say.
#[derive(Debug)]
pub struct Check {
    /// Whether there is no error; warnings are none.
    pub ok: bool,
    pub text: String,
}

/// How to show diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Human(Style),
    Json,
}

/// Checks all pipelines of a folder. The text is for people, or one line of JSON: `{ok, files, diagnostics}`, with the diagnostics of
/// [`render::json`].
pub fn check(directory: &Path, format: Format) -> Check {
    let shown = directory.to_string_lossy();
    let read = folder::read(directory, shown.trim_end_matches(['/', '\\']));
    let outcome = if read.problems.is_empty() { crate::check(&read.files) } else { Outcome::failed(read.problems) };
    let ok = !outcome.has_errors();
    let files = read.files.iter().count();
    let text = match format {
        Format::Json => {
            let diagnostics = render::json(&read.files, &outcome.diagnostics);
            format!("{}\n", serde_json::json!({ "ok": ok, "files": files, "diagnostics": diagnostics }))
        }
        Format::Human(style) => {
            let found = render::human(&read.files, &outcome.diagnostics, style);
            let verdict = match (ok, files) {
                (true, 0) => format!("no pipelines in {shown}\n"),
                (true, 1) => "1 file checked, no errors\n".into(),
                (true, _) => format!("{files} files checked, no errors\n"),
                (false, _) => "see docs/errors for each code\n".into(),
            };
            found + &verdict
        }
    };
    Check { ok, text }
}

/// The JSON Schema of pipelines.
pub fn schema() -> String {
    schema::text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_speaks_to_people_and_to_tools() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("order.yaml");
        std::fs::write(&path, "workflow: order\nversion: 1\nsteps:\n  - type: pay\n    retires: 5\n").expect("a file");
        let human = check(folder.path(), Format::Human(Style::Plain));
        assert!(!human.ok && human.text.contains("order.yaml:5:5") && human.text.contains("\n1 error\n"), "{}", human.text);

        let json = check(folder.path(), Format::Json);
        let value: serde_json::Value = serde_json::from_str(&json.text).expect("JSON");
        assert_eq!(value["ok"], false);
        let diagnostic = &value["diagnostics"][0];
        assert_eq!(diagnostic["code"], "CRUX0020");
        assert_eq!(
            (&diagnostic["place"]["line"], &diagnostic["place"]["column"], &diagnostic["place"]["end_column"]),
            (&5.into(), &5.into(), &12.into())
        );

        std::fs::write(&path, "workflow: order\nversion: 1\nsteps:\n  - type: pay\n").expect("a file");
        let human = check(folder.path(), Format::Human(Style::Plain));
        assert!(human.ok && human.text.ends_with("1 file checked, no errors\n"), "{}", human.text);
        std::fs::remove_file(path).expect("a file");
        assert!(check(folder.path(), Format::Human(Style::Plain)).text.starts_with("no pipelines in "));
    }
}
