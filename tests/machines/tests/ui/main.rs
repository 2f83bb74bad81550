//! What rustc says where YAML and Rust do not meet: the messages that people see, beside each of the `cases`. `BLESS=1` rewrites them
//! (twice, where generated code has changed too).
//!
//! rustc is called on each case directly, with the libraries that this very test is linked with:
//! separate builds would take minutes.

mod rustc;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustc::Rustc;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui")
}

fn is_blessed() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// What the compiler makes of `letters/pipelines` is what the cases are compiled with.
#[test]
fn the_letters_are_as_the_compiler_makes_them() {
    for path in ["pipelines.rs", "pipelines/letters.rs"] {
        let made = fs::read_to_string(Path::new(env!("OUT_DIR")).join("letters").join(path))
            .expect("the build script has made it");
        let file = folder().join("letters/generated").join(path);
        if is_blessed() {
            fs::create_dir_all(file.parent().expect("a folder"))
                .and_then(|()| fs::write(&file, &made))
                .expect("a writable folder");
        }
        assert!(
            fs::read_to_string(&file).is_ok_and(|there| there == made),
            "{path} has changed; write it with BLESS=1 and look at the diff"
        );
    }
}

#[test]
fn a_struct_for_each_class_compiles_without_a_warning() {
    let out = Rustc::new().compile("tests/ui/cases/right.rs");
    assert!(out.success && out.said.is_empty(), "{}", out.said);
}

#[test]
fn mismatches_of_yaml_and_rust_are_explained() {
    let rustc = Rustc::new();
    let mut changed = Vec::new();
    for entry in fs::read_dir(folder().join("cases")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path.extension().is_none_or(|extension| extension != "rs") || name == "right" {
            continue;
        }
        let out = rustc.compile(&format!("tests/ui/cases/{name}.rs"));
        assert!(!out.success, "{name} compiles");
        let expected = path.with_extension("stderr");
        if is_blessed() {
            fs::write(&expected, &out.said).expect("a writable folder");
        }
        if fs::read_to_string(&expected).unwrap_or_default() != out.said {
            changed.push(format!("{name}:\n{}", out.said));
        }
    }
    assert!(
        changed.is_empty(),
        "messages have changed; write them with BLESS=1 and look at the diff:\n{}",
        changed.join("\n")
    );
}

/// Two hundred and twenty steps, loops and branches inside of each other to a depth of sixteen: some 8 s of one core. The limit is for
/// machines that do much besides.
#[test]
fn a_monster_compiles_in_reasonable_time() {
    let main = Path::new(env!("CARGO_TARGET_TMPDIR")).join("monster.rs");
    let path = Path::new(env!("OUT_DIR")).join("monster/pipelines.rs");
    fs::write(&main, format!("#![deny(warnings)]\n#[path = {path:?}]\npub mod pipelines;\n"))
        .expect("a writable folder");
    let begun = Instant::now();
    let compiled = Rustc::new().library(&main);
    let took = begun.elapsed();
    println!("{took:?}");
    assert!(compiled.success, "{}", compiled.said);
    assert!(took < Duration::from_secs(300), "{took:?}");
}
