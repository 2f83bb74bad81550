//! The examples of `docs/language.md`, compiled. A fence says what its block is: `yaml NAME.yaml` a
//! whole file, `yaml prelude` the head of a workflow whose steps are the blocks `yaml steps` after
//! it, `text NAME.yaml` what the compiler says of the file before it. `BLESS=1` writes those
//! texts anew.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use crux_compiler::diagnostic::Diagnostic;
use crux_compiler::source::{File, Files};
use crux_compiler::{codes, render};

struct Block {
    kind: String,
    text: String,
    /// Of its first line.
    line: usize,
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/language.md")
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), open) {
            (Some(kind), false) => {
                blocks.push(Block { kind: kind.to_owned(), text: String::new(), line: number + 2 })
            }
            (None, true) => blocks.last_mut().expect("an open block").text += &format!("{line}\n"),
            _ => {}
        }
        open ^= line.starts_with("```");
    }
    blocks
}

fn check(name: &str, text: &str) -> (Vec<Diagnostic>, String) {
    let files = Files::new(vec![File { path: format!("pipelines/{name}"), text: text.to_owned() }]);
    let outcome = crux_compiler::check(&files);
    common::assert_schema_accepts(&files, &outcome.diagnostics, name);
    let shown = render::human(&files, &outcome.diagnostics, render::Style::Plain);
    (outcome.diagnostics, shown)
}

fn indented(steps: &str) -> String {
    steps.lines().map(|line| format!("  {line}\n")).collect()
}

#[test]
fn every_example_of_the_page_compiles_and_every_error_is_shown_as_it_is() {
    let mut page_text = fs::read_to_string(page()).expect("the page");
    let blocks = blocks(&page_text);
    let mut prelude = "";
    let mut shown = String::new();
    let mut wrong = Vec::new();
    for block in &blocks {
        let Some((language, name)) = block.kind.split_once(' ') else {
            wrong.push(format!("line {}: the fence does not say what its block is", block.line));
            continue;
        };
        let clean = |name: &str, text: &str| {
            let (diagnostics, shown) = check(name, text);
            // Each example shows one thing and leaves others unused.
            let bad = diagnostics.iter().any(|diagnostic| diagnostic.code != codes::UNUSED);
            bad.then(|| format!("line {}:\n{shown}", block.line))
        };
        match (language, name) {
            ("yaml", "comment") => {}
            ("yaml", "prelude") => prelude = &block.text,
            ("yaml", "steps") => wrong.extend(clean(
                "verbs.yaml",
                &format!("{prelude}\nsteps:\n{}", indented(&block.text)),
            )),
            ("yaml", "broken.yaml") => shown = check(name, &block.text).1,
            ("yaml", name) => wrong.extend(clean(name, &block.text)),
            ("text", _) if std::env::var_os("BLESS").is_some() => {
                page_text = page_text.replace(
                    &format!("```{}\n{}```", block.kind, block.text),
                    &format!("```{}\n{shown}```", block.kind),
                );
            }
            ("text", _) if block.text != shown => {
                wrong.push(format!("line {}: BLESS=1 would write\n{shown}", block.line))
            }
            _ => {}
        }
    }
    assert!(blocks.len() > 10, "the page has lost its examples");
    if std::env::var_os("BLESS").is_some() {
        fs::write(page(), page_text).expect("a writable page");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
