//! Reads which module of a crate imports which. A crate lists its modules, lowest first, and a test
//! fails on an import of one that stands above.
//!
//! `crux-compiler` includes this file by its path: it has no use for the rest of the kit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What breaks the order `layers` among the modules under the folder `root`; `lib.rs` and the test
/// itself, `layers.rs`, stand in no layer.
pub fn upward_imports(root: &Path, layers: &[&str]) -> Vec<String> {
    let place = |module: &str| layers.iter().position(|layer| *layer == module);
    let mut files = Vec::new();
    sources(root, &mut files);
    assert!(!files.is_empty(), "no sources under {}", root.display());
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(root).expect("under the root");
        let module = relative.iter().next().and_then(|part| Path::new(part).file_stem());
        let module = module.and_then(|name| name.to_str()).expect("a name");
        if ["lib", "layers"].contains(&module) {
            continue;
        }
        let Some(own) = place(module) else {
            wrong.push(format!("{module} has no place in LAYERS"));
            continue;
        };
        let code = code(&std::fs::read_to_string(&file).expect("a source"));
        for other in imported(&code) {
            if place(&other).is_some_and(|other| other > own) {
                wrong.push(format!("{} imports {other}, above it", relative.display()));
            }
        }
    }
    wrong
}

/// The modules that a section of `ARCHITECTURE.md` lists, in its order: the words in backticks in
/// the first column of its table.
pub fn listed<'t>(architecture: &'t str, heading: &str) -> Vec<&'t str> {
    let (_, section) = architecture.split_once(heading).expect("the section");
    let (section, _) = section.split_once("\n## ").expect("its end");
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// The sources under `folder`, without those of tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_test = path.file_stem().is_some_and(|name| name == "tests");
        if path.is_dir() && !is_test {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            found.push(path);
        }
    }
}

/// The code of a file without its comments and its tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// The modules that stand after `crate::`, also in `crate::{one, two::three}`.
fn imported(code: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        // `$crate::` in a macro is read where the macro is used.
        if code[..at].ends_with('$') {
            continue;
        }
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            None => modules.extend(first_word(rest)),
            Some(group) => {
                let mut depth = 0_usize;
                let mut is_first = true;
                for (at, character) in group.char_indices() {
                    if depth == 0 && is_first {
                        modules.extend(first_word(group[at..].trim_start()));
                    }
                    is_first = depth == 0 && character == ',';
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        _ => {}
                    }
                }
            }
        }
    }
    modules
}

fn first_word(text: &str) -> Option<String> {
    let word: String =
        text.chars().take_while(|next| next.is_ascii_lowercase() || *next == '_').collect();
    let is_module = !word.is_empty() && !text[word.len()..].starts_with(['!', '(']);
    is_module.then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_in_every_form() {
        let code = code(
            "use crate::bus::{Bus, Door};\nuse crate::{engine::{api, core}, store};\n\
             // crate::server\nfn f() { crate::live::f(); $crate::app::g(); crate::check(); }\n\
             #[cfg(test)]\nmod tests {\nuse crate::cli;\n}",
        );
        let found: Vec<String> = imported(&code).into_iter().collect();
        assert_eq!(found, ["bus", "engine", "live", "store"]);
    }

    #[test]
    fn an_import_of_a_higher_module_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("a file");
        };
        write("low.rs", "use crate::high::High;");
        write("high.rs", "use crate::low::Low;");
        write("new.rs", "");
        let mut wrong = upward_imports(folder.path(), &["low", "high"]);
        wrong.sort();
        assert_eq!(wrong, ["low.rs imports high, above it", "new has no place in LAYERS"]);
    }
}
