//! The page for those on call is complete: it has every metric, and every warning and error.

use std::path::Path;

use crate::kit::Server;

const PAGE: &str = include_str!("../../docs/on-call.md");

/// Backticks inside a line would end the code that it stands in.
fn plain(text: &str) -> String {
    text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
        {
            let text = std::fs::read_to_string(&path).expect("a source");
            found.push(text.split("#[cfg(test)]").next().unwrap_or_default().to_owned());
        }
    }
}

/// The texts in quotes from here to the parenthesis that closes.
fn literals(rest: &str) -> Vec<String> {
    let (mut depth, mut found, mut current, mut chars) =
        (1, Vec::new(), None::<String>, rest.chars());
    while depth > 0
        && let Some(c) = chars.next()
    {
        match (&mut current, c) {
            (Some(text), '\\') => {
                let escaped = chars.next().unwrap_or_default();
                text.push(if escaped == '\n' { ' ' } else { escaped });
            }
            (Some(_), '"') => found.extend(current.take()),
            (Some(text), _) => text.push(c),
            (None, '"') => current = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
    }
    found
}

#[test]
fn the_page_for_those_on_call_has_every_warning_and_error() {
    let page = plain(PAGE);
    let mut all = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crux-runtime/src"), &mut all);
    let (mut lines, mut missing) = (0, Vec::new());
    for source in &all {
        for (at, _) in source.match_indices("warn!(").chain(source.match_indices("error!(")) {
            let literals = literals(&source[at + source[at..].find('(').unwrap() + 1..]);
            let Some(line) = literals.iter().find(|text| text.contains(' ')) else { continue };
            lines += 1;
            // What is filled in differs each time, and the page cuts long lines short.
            let parts = line
                .split(['{', '}'])
                .enumerate()
                .filter(|(n, _)| n.is_multiple_of(2))
                .map(|(_, part)| plain(part));
            let longest = parts.max_by_key(String::len).unwrap_or_default();
            let words: String = longest.chars().take(40).collect();
            if !page.contains(words.trim()) {
                missing.push(line.clone());
            }
        }
    }
    assert!(missing.is_empty(), "docs/on-call.md does not explain these lines: {missing:#?}");
    assert!(lines > 40, "only {lines} warnings and errors are found in the sources");
}

#[test]
fn the_page_for_those_on_call_has_no_line_that_is_not_written_any_more() {
    let mut all = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crux-runtime/src"), &mut all);
    let all = plain(&all.concat().replace("\\\n", " "));
    let (_, tables) = PAGE.split_once("## Log lines").unwrap();
    let first = tables.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let lines = first.flat_map(|cell| cell.split('`').step_by(2));
    let parts = lines.flat_map(|line| line.split('…')).map(str::trim).filter(|part| part.len() > 8);
    let stale: Vec<&str> = parts.filter(|part| !all.contains(part)).collect();
    assert!(stale.is_empty(), "docs/on-call.md has what no source says: {stale:#?}");
}

/// Also those of brokers, which a server without one does not have.
#[test]
fn the_page_for_those_on_call_has_every_metric_of_the_sources() {
    let mut all = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crux-runtime/src"), &mut all);
    let metric = regex::Regex::new(r#""([a-z][a-z_]+)",\s*(?:help\b|"[A-Z])"#).unwrap();
    let field = regex::Regex::new(r#"name: "([a-z_]+)",\s*help:"#).unwrap();
    let registers = |source: &&String| {
        ["Registry", "encode_descriptor", "Metric {"].iter().any(|word| source.contains(word))
    };
    let (mut names, mut missing) = (0, Vec::new());
    for source in all.iter().filter(registers) {
        for found in metric.captures_iter(source).chain(field.captures_iter(source)) {
            names += 1;
            let name = format!("`crux_{}`", &found[1]);
            if !PAGE.contains(&name) {
                missing.push(name);
            }
        }
    }
    assert!(missing.is_empty(), "docs/on-call.md does not explain these metrics: {missing:#?}");
    assert!(names > 40, "only {names} metrics are found in the sources");
}

#[tokio::test]
async fn the_page_for_those_on_call_has_every_metric_of_a_server() {
    let server = Server::start(env!("CARGO_BIN_EXE_crux"), "");
    let metrics = String::from_utf8(server.client().get("/metrics").await.body.to_vec()).unwrap();
    let names: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(names.len() > 30, "{metrics}");
    let missing: Vec<&&str> =
        names.iter().filter(|name| !PAGE.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/on-call.md does not explain these metrics: {missing:#?}");
}
