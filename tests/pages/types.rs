//! The types that a pipeline becomes: docs/steps.md shows a pipeline and lines of its Rust.

use std::process::Command;

use crate::kit::fences;

#[test]
fn a_pipeline_becomes_the_types_of_the_page() {
    let blocks = fences::of_page("docs/steps.md");
    let of_kind = |kind: &str| {
        let block = blocks.iter().find(|block| block.kind == kind);
        block.unwrap_or_else(|| panic!("docs/steps.md has no block `{kind}`"))
    };
    let folder = tempfile::tempdir().expect("a folder");
    let pipelines = folder.path().join("pipelines");
    std::fs::create_dir(&pipelines).expect("a folder");
    std::fs::write(pipelines.join("shipment.yaml"), &of_kind("types").text).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_crux"))
        .arg("expand")
        .current_dir(folder.path())
        .output()
        .expect("the binary runs");
    let rust = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // In this order, with other lines between them.
    let mut lines = rust.lines();
    for shown in of_kind("expanded").text.lines() {
        assert!(lines.any(|line| line == shown), "`{shown}` is not there, or earlier, in\n{rust}");
    }
}
