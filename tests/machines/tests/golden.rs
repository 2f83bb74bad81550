//! The generated machines, word for word: a change of the generator is seen in review as a reader
//! of generated code sees it. What stands in `golden` is what this package has compiled with
//! warnings denied. `BLESS=1` rewrites it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let entries =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    entries.map(|path| path.file_name().expect("a name").into()).collect()
}

#[test]
fn machines_are_as_they_were() {
    let (compiled, golden) = (
        Path::new(env!("OUT_DIR")).join("pipelines"),
        Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"),
    );
    let bless = std::env::var_os("BLESS").is_some();
    if bless {
        fs::create_dir_all(&golden).expect("a writable folder");
        files(&golden)
            .difference(&files(&compiled))
            .for_each(|old| fs::remove_file(golden.join(old)).expect("a writable folder"));
    }
    let mut changed = Vec::new();
    for file in files(&compiled).union(&if bless { BTreeSet::new() } else { files(&golden) }) {
        let found = fs::read_to_string(compiled.join(file)).unwrap_or_default();
        if bless {
            fs::write(golden.join(file), &found).expect("a writable folder");
        }
        let expected = fs::read_to_string(golden.join(file)).unwrap_or_default();
        if found != expected {
            changed.push(format!("{}, {}", file.display(), first_difference(&found, &expected)));
        }
    }
    assert!(
        changed.is_empty(),
        "generated code has changed; write it with BLESS=1 and look at the diff:\n{}",
        changed.join("\n")
    );
}

fn first_difference(found: &str, expected: &str) -> String {
    let differs = found
        .lines()
        .zip(expected.lines())
        .enumerate()
        .find(|(_, (found, expected))| found != expected);
    match differs {
        Some((line, (found, expected))) => {
            format!("line {}:\n  found    {found}\n  expected {expected}", line + 1)
        }
        None => "one is longer than the other, or is not there".into(),
    }
}
