//! Compiles the pipelines of these tests, and beside them what the compile tests hand to rustc
//! themselves.

#[path = "../../crux-compiler/tests/common/monster.rs"]
mod monster;

use std::fs;
use std::path::Path;

use crux_compiler::source::{File, Files};

fn main() {
    crux_compiler::cargo::compile("pipelines");
    let letters = "tests/ui/letters/pipelines";
    println!("cargo::rerun-if-changed={letters}");
    write("letters", &crux_compiler::folder::read(Path::new(letters), "pipelines").files);
    write(
        "monster",
        &Files::new(vec![File {
            path: "pipelines/monster.yaml".into(),
            text: monster::monster(20),
        }]),
    );
}

fn write(folder: &str, files: &Files) {
    let folder =
        Path::new(&std::env::var_os("OUT_DIR").expect("this runs in a build script")).join(folder);
    let outcome = crux_compiler::compile(files);
    let sources = outcome.rust.unwrap_or_else(|| panic!("{:#?}", outcome.diagnostics));
    fs::create_dir_all(folder.join("pipelines")).expect("a writable folder");
    for source in sources {
        fs::write(folder.join(source.path), source.text).expect("a writable folder");
    }
}
