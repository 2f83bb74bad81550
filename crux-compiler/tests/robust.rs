//! Whatever is fed in: an answer, within bounds, and never a panic. Places of diagnostics are
//! inside their files.

mod common;

use std::time::{Duration, Instant};

use crux_compiler::source::{File, Files};
use crux_compiler::{parse, render};
use proptest::prelude::*;

/// Compiles, renders, and looks at the places.
fn feed(files: &Files) -> bool {
    let outcome = crux_compiler::check(files);
    for diagnostic in &outcome.diagnostics {
        for span in
            std::iter::once(diagnostic.span).chain(diagnostic.others.iter().map(|(span, _)| *span))
        {
            let text = &files.get(span.file).expect("a file of the set").text;
            assert!(
                span.start <= span.end && span.end as usize <= text.len(),
                "{diagnostic:?} in {text:?}"
            );
            assert!(
                text.is_char_boundary(span.start as usize)
                    && text.is_char_boundary(span.end as usize),
                "{diagnostic:?} in {text:?}"
            );
        }
    }
    let text = render::human(files, &outcome.diagnostics, render::Style::Plain);
    assert_eq!(outcome.diagnostics.is_empty(), text.is_empty());
    render::json(files, &outcome.diagnostics);
    !outcome.has_errors()
}

fn one(text: &str) -> Files {
    Files::new(vec![File { path: "pipelines/order.yaml".into(), text: text.into() }])
}

#[test]
fn every_prefix_of_every_good_file_gets_an_answer() {
    let mut good = common::accepted();
    // Each word of the language is in one of these; the others would only take longer.
    good.retain(|(name, _)| ["booking", "everything", "nested_scopes"].contains(&name.as_str()));
    good.push(("shipped".into(), common::shipped()));
    let mut fed = 0;
    for (_, files) in &good {
        for (_, file) in files.iter() {
            for (at, _) in file.text.char_indices() {
                feed(&Files::new(vec![File {
                    path: file.path.clone(),
                    text: file.text[..at].into(),
                }]));
                fed += 1;
            }
        }
    }
    assert!(fed > 5_000, "only {fed} prefixes");
}

/// How long the worst input may take. The compiler is not optimised in tests, and the machine has
/// other work.
const PATIENCE: Duration = Duration::from_secs(120);

fn in_time(what: &str, text: &str) {
    let begun = Instant::now();
    feed(&one(text));
    let taken = begun.elapsed();
    assert!(taken < PATIENCE, "{what} took {taken:?}");
    if taken > Duration::from_secs(1) {
        eprintln!("{what} took {taken:?}");
    }
}

#[test]
fn inputs_that_grow_without_end_get_an_answer_in_time() {
    // A quarter of what is allowed shows any work that grows with the square, and keeps the test
    // short.
    let room = parse::FILE_BYTES_MAX / 4;
    let head = "workflow: order\nversion: 1\nsteps:\n  - type: pay\n";
    let parts = [
        "[",
        "{",
        "]",
        "- ",
        "? ",
        ": ",
        "a: ",
        "{a: ",
        "!a ",
        "&a ",
        "*a ",
        "\"",
        "'",
        "|\n",
        "# ",
        "\t",
        "%",
        "@",
        "${",
        "a: 1\n",
        "a: |\n ",
        "- a\n",
        "---\n",
        "[a, ",
        "a ",
        "é",
        "\u{feff}",
        "\r",
        "\n",
        " ",
        ",",
        "list<",
        "a|",
        "\\",
        "!",
        "&",
        "*",
        "<<: {}\n",
        "a: &a *a\n",
    ];
    for part in parts {
        let many = part.repeat(room / part.len());
        in_time(part, &many);
        in_time(&format!("with {part}"), &format!("{head}    with: {many}"));
        in_time(
            &format!("input {part}"),
            &format!("{head}input: {{ a: \"{}\" }}\n", many.replace(['"', '\\'], "")),
        );
        in_time(
            &format!("quoted {part}"),
            &format!("{head}    when: '{}'\n", many.replace('\'', "")),
        );
    }
    let keys = |line: fn(usize) -> String| {
        (0..)
            .map(line)
            .scan(0, |len, line| {
                *len += line.len();
                (*len < room).then_some(line)
            })
            .collect::<String>()
    };
    in_time("unknown keys", &keys(|n| format!("key{n}: 1\n")));
    in_time("steps", &format!("{head}{}", keys(|n| format!("  - type: s{n}\n"))));
    in_time(
        "steps that read each other",
        &format!(
            "{head}{}",
            keys(|n| format!("  - {{ id: a{n}, class: A{n}, when: steps.a{}.x == 1 }}\n", n / 2))
        ),
    );
    in_time(
        "steps without a verb",
        &format!("{head}{}", keys(|n| format!("  - {{ tipe: s{n} }}\n"))),
    );
    in_time("fields", &format!("{head}input:\n{}", keys(|n| format!("  f{n}: strin\n"))));
    in_time(
        "types",
        &format!("{head}types:\n{}", keys(|n| format!("  T{n}: {{ a: T{} }}\n", n + 1))),
    );
    in_time("words", &format!("{head}types:\n  A: {}x\n", keys(|n| format!("w{n}|"))));
    in_time(
        "branches",
        &format!("{head}  - id: b\n    parallel:\n{}", keys(|n| format!("      b{n}: []\n"))),
    );
    in_time(
        "cases",
        &format!(
            "{head}  - id: b\n    switch:\n      value: input.a\n      cases:\n{}",
            keys(|n| format!("        b{n}: []\n"))
        ),
    );
    in_time("swallowed", &format!("{head}    with: [{}]", keys(|n| format!("a{n} #b\n, "))));
    in_time("tags on a line", &format!("{head}    with: [{}]", keys(|n| format!("!a{n} b, "))));
}

#[test]
fn ten_megabytes_are_refused_immediately() {
    let begun = Instant::now();
    let text = "a: 1\n".repeat(2_000_000);
    let files = one(&text);
    let outcome = crux_compiler::check(&files);
    assert_eq!(outcome.diagnostics.len(), 1);
    assert!(outcome.diagnostics[0].message.contains("10000000 bytes"), "{:?}", outcome.diagnostics);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn an_alias_bomb_is_refused_unexploded() {
    let mut text =
        String::from("workflow: order\nversion: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..60 {
        text += &format!(
            "a{n}: &a{n} [*a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}]\n",
            m = n - 1
        );
    }
    in_time("an alias bomb", &text);
    assert!(!feed(&one(&text)));
}

/// Words of the language and of YAML, put together by chance.
fn soup() -> impl Strategy<Value = String> {
    let words = [
        "workflow: order\n",
        "version: 1\n",
        "steps:\n",
        "  - ",
        "    ",
        "id: a\n",
        "type: pay\n",
        "parallel:\n",
        "switch:\n",
        "each: { item: x, in: input.xs, ",
        "repeat: ",
        "wait: { event: a.b }\n",
        "sleep: 5m\n",
        "emit: ",
        "fail: { error: E }\n",
        "catch:\n",
        "with: { a: ${input.a} }\n",
        "when: input.a > 1\n",
        "undo: none\n",
        "input: { a: integer }\n",
        "types: { T: a | b }\n",
        "else: []\n",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "'",
        "\"",
        ": ",
        " #",
        "&a ",
        "*a",
        "!t ",
        "\n",
        "\t",
        "é",
        "|\n",
        ">-\n",
        "$",
        "${",
        "?",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40)
        .prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_an_answer(text in "\\PC*") {
        feed(&one(&text));
    }

    #[test]
    fn any_soup_of_words_gets_an_answer(text in soup()) {
        feed(&one(&text));
        feed(&one(&format!("workflow: order\nversion: 1\nsteps:\n{text}")));
    }

    #[test]
    fn any_change_of_a_good_file_gets_an_answer(at in any::<proptest::sample::Index>(), len in 0usize..40, insert in soup(), which in any::<proptest::sample::Index>()) {
        let good: Vec<File> = common::shipped().iter().map(|(_, file)| file.clone()).collect();
        let file = which.get(&good);
        let chars: Vec<char> = file.text.chars().collect();
        let at = at.index(chars.len());
        let text: String = chars[..at].iter().copied().chain(insert.chars().take(30)).chain(chars[(at + len).min(chars.len())..].iter().copied()).collect();
        feed(&Files::new(vec![File { path: file.path.clone(), text }]));
    }
}
