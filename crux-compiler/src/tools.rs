//! What the command line shows of pipelines without building them. Each function gives text; who
//! calls it prints it and sets the exit code.

use std::path::Path;

use crate::render::{self, Style};
use crate::source::Files;
use crate::suggest::nearest;
use crate::{Outcome, emit, folder, graph, schema};

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

/// Checks all pipelines of a folder. The text is for people, or one line of JSON: `{ok, files,
/// diagnostics}`, with the diagnostics of [`render::json`].
pub fn check(directory: &Path, format: Format) -> Check {
    let shown = directory.to_string_lossy();
    let read = folder::read(directory, shown.trim_end_matches(['/', '\\']));
    let outcome = if read.problems.is_empty() {
        crate::check(&read.files)
    } else {
        Outcome::failed(read.problems)
    };
    let ok = !outcome.has_errors();
    let files = read.files.iter().count();
    let text = match format {
        Format::Json => {
            let diagnostics = render::json(&read.files, &outcome.diagnostics);
            format!(
                "{}\n",
                serde_json::json!({ "ok": ok, "files": files, "diagnostics": diagnostics })
            )
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

/// The Rust of a workflow, exactly as it is compiled, or all generated files, one after the other
/// under their names. The error: what is wrong with the pipelines, for people.
pub fn expand(directory: &Path, workflow: Option<&str>, style: Style) -> Result<String, String> {
    let (outcome, shown) = compiled(directory, style, crate::compile);
    let (Some(rust), Some(program)) = (outcome.rust, outcome.program) else { return Err(shown) };
    let Some(name) = workflow else {
        return Ok(rust
            .iter()
            .map(|source| format!("// ==> {} <==\n{}", source.path, source.text))
            .collect::<Vec<_>>()
            .join("\n"));
    };
    let files: Vec<String> =
        program.workflows.iter().filter(|workflow| workflow.name == name).map(emit::file).collect();
    if files.is_empty() {
        let names: Vec<&str> =
            program.workflows.iter().map(|workflow| workflow.name.as_str()).collect();
        return Err(unknown(name, &names));
    }
    let wanted = rust.into_iter().filter(|source| files.contains(&source.path));
    Ok(wanted.map(|source| source.text).collect::<Vec<_>>().join("\n"))
}

/// A workflow as a Mermaid flowchart, or all of them, one after the other. The error as for
/// [`expand`].
pub fn graph(directory: &Path, workflow: Option<&str>, style: Style) -> Result<String, String> {
    let (outcome, shown) = compiled(directory, style, crate::check);
    let Some(program) = outcome.program else { return Err(shown) };
    let wanted = || {
        program
            .workflows
            .iter()
            .filter(|candidate| workflow.is_none_or(|name| candidate.name == name))
    };
    if let (Some(name), None) = (workflow, wanted().next()) {
        let names: Vec<&str> =
            program.workflows.iter().map(|workflow| workflow.name.as_str()).collect();
        return Err(unknown(name, &names));
    }
    Ok(wanted().map(graph::mermaid).collect::<Vec<_>>().join("\n"))
}

/// What a stage makes of a folder, and its diagnostics as people read them.
fn compiled(directory: &Path, style: Style, stage: fn(&Files) -> Outcome) -> (Outcome, String) {
    let shown = directory.to_string_lossy();
    let read = folder::read(directory, shown.trim_end_matches(['/', '\\']));
    let outcome =
        if read.problems.is_empty() { stage(&read.files) } else { Outcome::failed(read.problems) };
    let text = render::human(&read.files, &outcome.diagnostics, style);
    (outcome, text)
}

fn unknown(name: &str, known: &[&str]) -> String {
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", known.join(", ")),
    };
    format!("error: there is no workflow `{name}`; {help}\n")
}

/// The JSON Schema of pipelines.
pub fn schema() -> String {
    schema::TEXT.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("order.yaml"), text).expect("a file");
        folder
    }

    #[test]
    fn graph_draws_one_workflow_and_knows_the_others_by_name() {
        let folder = order("workflow: order\nversion: 1\nsteps:\n  - type: pay\n");
        let drawn = graph(folder.path(), Some("order"), Style::Plain).expect("a graph");
        assert!(drawn.starts_with("flowchart TD\n"), "{drawn}");
        let error =
            graph(folder.path(), Some("ordre"), Style::Plain).expect_err("no such workflow");
        assert_eq!(error, "error: there is no workflow `ordre`; did you mean `order`?\n");
    }

    #[test]
    fn graph_draws_a_way_past_a_switch_only_where_there_is_one() {
        let drawn = |cases: &str| {
            let head = "workflow: order\nversion: 1\ninput: { way: air | sea }\nsteps:\n  - id: ship\n    switch:\n";
            graph(order(&format!("{head}{cases}")).path(), None, Style::Plain).expect("a graph")
        };
        let by_value = drawn(
            "      value: input.way\n      cases:\n        air: [{ type: fly }]\n        sea: [{ type: sail }]\n",
        );
        assert!(
            by_value.contains("input.way == ") && !by_value.contains("none of them"),
            "{by_value}"
        );
        let by_condition =
            drawn("      - when: input.way == \"air\"\n        steps: [{ type: fly }]\n");
        assert!(by_condition.contains("none of them"), "{by_condition}");
    }

    #[test]
    fn graph_and_expand_show_what_is_wrong_with_the_pipelines() {
        let folder = order("workflow: order\nversion: 1\n");
        for error in
            [graph(folder.path(), None, Style::Plain), expand(folder.path(), None, Style::Plain)]
        {
            assert!(error.expect_err("broken").contains("error[CRUX0021]"));
        }
    }

    #[test]
    fn expand_shows_what_is_compiled() {
        let folder = order("workflow: order\nversion: 1\nsteps:\n  - type: pay\n");
        let shown = folder.path().to_string_lossy().into_owned();
        let read = folder::read(folder.path(), &shown);
        let compiled = crate::compile(&read.files).rust.expect("there are no errors");
        let order =
            expand(folder.path(), Some("order"), Style::Plain).expect("there are no errors");
        assert_eq!([order.as_str()], [compiled[1].text.as_str()]);
        assert!(order.contains("\n//! ```mermaid\n//! flowchart TD\n"), "{order}");

        let all = expand(folder.path(), None, Style::Plain).expect("there are no errors");
        assert!(
            all.starts_with("// ==> pipelines.rs <==\n// @generated") && all.ends_with(&order),
            "{all}"
        );
        let error =
            expand(folder.path(), Some("ordre"), Style::Plain).expect_err("no such workflow");
        assert_eq!(error, "error: there is no workflow `ordre`; did you mean `order`?\n");
    }

    #[test]
    fn check_speaks_to_people_and_to_tools() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("order.yaml");
        std::fs::write(
            &path,
            "workflow: order\nversion: 1\nsteps:\n  - type: pay\n    retires: 5\n",
        )
        .expect("a file");
        let human = check(folder.path(), Format::Human(Style::Plain));
        assert!(
            !human.ok
                && human.text.contains("order.yaml:5:5")
                && human.text.contains("\n1 error\n"),
            "{}",
            human.text
        );

        let json = check(folder.path(), Format::Json);
        let value: serde_json::Value = serde_json::from_str(&json.text).expect("JSON");
        assert_eq!(value["ok"], false);
        let diagnostic = &value["diagnostics"][0];
        assert_eq!(diagnostic["code"], "CRUX0020");
        assert_eq!(
            (
                &diagnostic["place"]["line"],
                &diagnostic["place"]["column"],
                &diagnostic["place"]["end_column"]
            ),
            (&5.into(), &5.into(), &12.into())
        );

        std::fs::write(&path, "workflow: order\nversion: 1\nsteps:\n  - type: pay\n")
            .expect("a file");
        let human = check(folder.path(), Format::Human(Style::Plain));
        assert!(human.ok && human.text.ends_with("1 file checked, no errors\n"), "{}", human.text);
        std::fs::remove_file(path).expect("a file");
        assert!(
            check(folder.path(), Format::Human(Style::Plain))
                .text
                .starts_with("error[CRUX0014]: there are no pipelines in ")
        );
    }
}
