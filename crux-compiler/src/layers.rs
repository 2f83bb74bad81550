//! Which module may import which: those that stand before it in [`LAYERS`], and no other.

use std::path::Path;

use imports::{listed, upward_imports};

#[path = "../../tests/kit/src/layers.rs"]
mod imports;

/// The modules of this crate, lowest first; `ARCHITECTURE.md` has the same order. A new module gets
/// its place here. `lib.rs` lists them and has the order of the stages.
const LAYERS: [&str; 26] = [
    // Words without behaviour.
    "suggest",
    "names",
    "units",
    "bound",
    // Files and what is said about them.
    "source",
    "text",
    "diagnostic",
    "codes",
    "render",
    // The shapes that a pipeline has, and what its types and functions are.
    "model",
    "ir",
    "types",
    "builtins",
    "secrets",
    // The stages.
    "expr",
    "parse",
    "schema",
    "typing",
    "resolve",
    "lower",
    "check",
    "graph",
    "emit",
    // What reads folders and prints.
    "folder",
    "tools",
    "cargo",
];

#[test]
fn no_module_imports_one_that_stands_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let wrong = upward_imports(&root, &LAYERS);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_architecture_has_the_same_order() {
    let text = include_str!("../../ARCHITECTURE.md");
    assert_eq!(listed(text, "## Layers of the compiler"), LAYERS);
}
