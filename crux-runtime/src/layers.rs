//! Which module may import which: only those before it in [`LAYERS`]. So a module can be read,
//! tested and replaced without regard to those above it.

use std::path::Path;

use crux_test_kit::layers::{listed, upward_imports};

/// The modules of this crate, lowest first; `ARCHITECTURE.md` has the same order. A new module gets
/// its place here. `lib.rs` only lists them.
const LAYERS: [&str; 32] = [
    // Types without behaviour.
    "canonical",
    "suggest",
    "machine",
    "id",
    "token",
    "units",
    "address",
    "outside",
    "signals",
    "source",
    "clock",
    "backoff",
    "journal",
    "definition",
    "proto",
    // What every task of a process needs.
    "telemetry",
    "supervise",
    "open_files",
    // What is kept.
    "redis_client",
    "store",
    "live",
    // What does the work.
    "task",
    "executor",
    "app",
    "bus",
    "engine",
    // What is shown and asked.
    "view",
    "config",
    "ingress",
    // What puts it all together.
    "worker",
    "server",
    "cli",
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
    assert_eq!(listed(text, "## Layers of the runtime"), LAYERS);
}
