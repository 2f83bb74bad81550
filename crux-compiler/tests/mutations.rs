//! Every fixture, damaged: a line left out, a word replaced, two words swapped. Whatever comes of
//! it, the compiler says something or makes a program; it never panics, hangs or does neither. What
//! it accepts, the JSON Schema accepts too.

mod common;

use crux_compiler::source::{File, Files};

/// Words that mean something somewhere, and so do damage elsewhere.
const WORDS: [&str; 14] = [
    "steps",
    "input",
    "null",
    "5",
    "-1.5",
    "\"\"",
    "[]",
    "{}",
    "${input}",
    "steps.pay",
    "string?",
    "list<string>",
    "any",
    "switch",
];

fn check(text: &str, path: &str) {
    let files = Files::new(vec![File { path: path.to_owned(), text: text.to_owned() }]);
    let outcome = crux_compiler::check(&files);
    assert_eq!(outcome.program.is_none(), outcome.has_errors(), "a program or an error:\n{text}");
    let shown = crux_compiler::render::human(
        &files,
        &outcome.diagnostics,
        crux_compiler::render::Style::Plain,
    );
    assert_eq!(shown.is_empty(), outcome.diagnostics.is_empty());
    common::assert_schema_accepts(&files, &outcome.diagnostics, path);
    for workflow in outcome.program.iter().flat_map(|program| &program.workflows) {
        assert!(crux_compiler::graph::mermaid(workflow).starts_with("flowchart"));
    }
}

fn sources() -> Vec<File> {
    let fixtures = (common::accepted().into_iter().chain(common::fixtures("diagnostics")))
        .map(|(_, files)| files)
        .chain([common::shipped()]);
    fixtures
        .flat_map(|files| files.iter().map(|(_, file)| file.clone()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_missing_line_is_survived() {
    for file in sources() {
        let lines: Vec<&str> = file.text.lines().collect();
        for missing in 0..lines.len() {
            let left: Vec<&str> = lines
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != missing)
                .map(|(_, line)| *line)
                .collect();
            check(&left.join("\n"), &file.path);
        }
    }
}

#[test]
fn a_replaced_word_is_survived() {
    // A fixed sequence, so that a failure comes back.
    let mut seed = 1u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below.max(1)
    };
    for file in sources() {
        let words = common::words(&file.text);
        for _ in 0..40 {
            let Some((start, end)) = words.get(next(words.len())) else { continue };
            let other = words[next(words.len())];
            let replacement =
                if next(2) == 0 { WORDS[next(WORDS.len())] } else { &file.text[other.0..other.1] };
            check(
                &format!("{}{replacement}{}", &file.text[..*start], &file.text[*end..]),
                &file.path,
            );
        }
    }
}
