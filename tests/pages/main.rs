//! The documentation, tried out. Every block of every page says by its fence what the tests do with
//! it here: it is run, compared with what was run before, read as what it claims to be, or found in
//! the file that it quotes. A block whose fence does not say so is a failure. Help pages are
//! documentation too.
//!
//! | fence | what is tried |
//! |---|---|
//! | `bash run` | it succeeds; `localhost:8080` is a server with the shipped pipelines |
//! | `json answer` | what was said before has this shape: the same fields, and values that differ in ids, times and `…` only |
//! | `console run` | each command after `$ ` succeeds and says this |
//! | `console error` | each command fails and says this on standard error |
//! | `console serve` | the server begins with these words |
//! | `json message` | a follower of `$ID` gets a message of this shape |
//! | `yaml serve` | the server begins anew, with this configuration |
//! | `yaml save NAME` | it is a file in the folder of the commands after it |
//! | `yaml config` | the server takes it as its configuration |
//! | `yaml settings` | also, it names every setting, with its default |
//! | `sql run`, `text table` | the store answers it; the answer has these columns |
//! | `text routes` | the server has each of these routes |
//! | LANGUAGE `path/of/a/file` | it stands in this file, word by word |
//! | `by-hand` | nothing; a page is allowed so many, and why is said here |
//!
//! Kinds that other tests try out, and pages that are theirs, are in [`page::ELSEWHERE`].

mod backup;
mod compose;
mod deploy;
mod developers;
mod grpc;
mod help;
mod json;
mod links;
mod on_call;
mod page;
mod services;
mod types;

use std::collections::BTreeSet;

use crux_test_kit as kit;
use kit::fences;

macro_rules! pages {
    ($($test:ident $path:literal by_hand $by_hand:literal)*) => {
        const PAGES: &[&str] = &[$($path),*];
        $(
            #[test]
            fn $test() {
                page::Page::of($path).try_out($by_hand);
            }
        )*
    };
}

pages! {
    // The demo, which has its own tests, and the command that runs this.
    the_readme "README.md" by_hand 2
    // A drawing.
    the_architecture "ARCHITECTURE.md" by_hand 1
    the_changelog "CHANGELOG.md" by_hand 0
    // What `.ci/run` and `cargo xtask test` do, and the form of a commit.
    the_page_of_contributors "CONTRIBUTING.md" by_hand 3
    the_page_of_the_api "docs/api.md" by_hand 0
    // Release builds, and figures of one machine.
    the_page_of_benchmarks "docs/benchmarks.md" by_hand 1
    the_page_of_the_command_line "docs/cli.md" by_hand 0
    the_page_of_the_configuration "docs/configuration.md" by_hand 0
    // Installing on machines and clusters.
    the_page_of_deployment "docs/deploy.md" by_hand 2
    the_page_of_durability "docs/durability.md" by_hand 0
    the_glossary "docs/glossary.md" by_hand 0
    the_page_on_call "docs/on-call.md" by_hand 0
    // Lines of a Redis with other data.
    the_page_of_the_store_in_redis "docs/redis.md" by_hand 7
    the_page_of_production "docs/production.md" by_hand 0
    the_page_of_security "docs/security.md" by_hand 0
    // Of a Redis with users.
    the_page_of_services "docs/services.md" by_hand 1
    the_page_of_step_structs "docs/steps.md" by_hand 0
    // Several processes and a broker; `tests/app/tests/workers` has them.
    the_page_of_workers "docs/workers.md" by_hand 2
}

/// Whole pages that have their own tests.
const PAGES_ELSEWHERE: &[(&str, &str)] = &[
    ("docs/grpc.md", "tests/pages/grpc.rs"),
    ("docs/language.md", "crux-compiler/tests/language_page.rs"),
    ("docs/package.md", "tests/rebuild.rs"),
];

#[test]
fn no_page_is_forgotten() {
    let project = fences::project();
    let files = |folder: &str| {
        let entries = std::fs::read_dir(project.join(folder))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path());
        let pages =
            entries.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        pages
            .map(|path| path.strip_prefix(&project).expect("it is inside").display().to_string())
            .collect::<Vec<_>>()
    };
    let there: BTreeSet<String> = files("").into_iter().chain(files("docs")).collect();
    for (page, test) in PAGES_ELSEWHERE {
        let text = std::fs::read_to_string(project.join(test))
            .unwrap_or_else(|error| panic!("{test}: {error}"));
        let name = page.rsplit('/').next().expect("a name");
        assert!(text.contains(name), "{test} does not speak of {page}");
    }
    let tried: BTreeSet<String> = PAGES
        .iter()
        .copied()
        .chain(PAGES_ELSEWHERE.iter().map(|(page, _)| *page))
        .map(str::to_owned)
        .collect();
    assert_eq!(there, tried);
}
