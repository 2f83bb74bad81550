//! Every `tests/diagnostics/NAME.yaml`, or every folder there with several files, is compiled; what
//! a user would see must equal `NAME.stderr` beside it. `BLESS=1 cargo test -p crux-compiler
//! --test diagnostics` writes the expected texts anew: read the difference before committing it.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crux_compiler::source::Files;
use crux_compiler::{codes, render};

fn fixtures() -> Vec<(String, Files)> {
    common::fixtures("diagnostics")
}

#[test]
fn the_diagnostics_of_every_fixture_are_as_expected() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for (name, files) in fixtures() {
        let outcome = crux_compiler::check(&files);
        let text = render::human(&files, &outcome.diagnostics, render::Style::Plain);
        let expected_path = common::folder("diagnostics").join(format!("{name}.stderr"));
        if bless {
            fs::write(&expected_path, &text).expect("a writable folder");
        } else if fs::read_to_string(&expected_path).unwrap_or_default() != text {
            wrong.push(format!("---- {name} ----\n{text}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} fixtures differ (BLESS=1 rewrites them):\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_expected_text_has_its_fixture() {
    let names: BTreeSet<String> = fixtures().into_iter().map(|(name, _)| name).collect();
    for path in common::entries(&common::folder("diagnostics")) {
        if path.extension().is_some_and(|extension| extension == "stderr") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            assert!(names.contains(&name), "{} has no fixture", path.display());
        }
    }
}

#[test]
fn the_messages_of_every_fixture_are_in_house_style() {
    for (name, files) in fixtures() {
        for diagnostic in crux_compiler::check(&files).diagnostics {
            let texts = [&diagnostic.message, &diagnostic.label]
                .into_iter()
                .chain(&diagnostic.notes)
                .chain(&diagnostic.helps);
            for text in texts {
                assert!(!text.ends_with('.'), "{name}: no full stop at the end: {text}");
                let first = text.chars().next();
                assert!(
                    first.is_none_or(|c| !c.is_uppercase()
                        || text.starts_with("YAML")
                        || text.starts_with("HTTP")),
                    "{name}: lower case first: {text}"
                );
            }
            let place = files.get(diagnostic.span.file).expect("a file of the set");
            assert!(
                diagnostic.span.end as usize <= place.text.len(),
                "{name}: the place is in the file"
            );
            assert!(
                !diagnostic.helps.is_empty()
                    || !diagnostic.notes.is_empty()
                    || !diagnostic.label.is_empty(),
                "{name}: says why or how to fix it"
            );
        }
    }
}

/// Codes that no text of YAML can bring about; their own tests do.
const WITHOUT_FIXTURE: &[codes::Code] =
    &[codes::FILE, codes::FOLDER_INSIDE, codes::NO_PIPELINES, codes::TOO_MANY_STEPS];

#[test]
fn every_code_has_a_fixture_and_a_page() {
    let seen: BTreeSet<_> = fixtures()
        .iter()
        .flat_map(|(_, files)| crux_compiler::check(files).diagnostics)
        .map(|diagnostic| diagnostic.code)
        .collect();
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");
    for (code, title) in codes::ALL {
        assert!(
            seen.contains(code) || WITHOUT_FIXTURE.contains(code),
            "{code} ({title}) has no fixture"
        );
        let page = fs::read_to_string(pages.join(format!("{code}.md"))).unwrap_or_default();
        assert!(
            page.starts_with(&format!("# {code}: {title}\n")),
            "docs/errors/{code}.md begins with `# {code}: {title}`"
        );
    }
}
