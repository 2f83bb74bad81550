//! The compiler and what it is made of are needed twice, by build scripts and by the binary. Cargo
//! builds a crate twice when its features or its profile differ between the two; then the first
//! build of every user takes that much longer. `Cargo.toml` keeps them equal.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What Cargo would build, as Cargo says it.
fn units(arguments: &[&str]) -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").expect("Cargo runs the tests");
    let output = Command::new(cargo)
        .args(["build", "--offline", "-Z", "unstable-options", "--unit-graph"])
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("RUSTC_BOOTSTRAP", "1")
        .output()
        .expect("Cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut graph: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    graph["units"].as_array_mut().map(std::mem::take).expect("a list of units")
}

fn assert_built_once(arguments: &[&str]) {
    let mut built: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut count = 0;
    for unit in units(arguments) {
        if unit["mode"] != "build" || unit["target"]["kind"][0] == "custom-build" {
            continue;
        }
        let what = format!("{} ({})", unit["pkg_id"], unit["target"]["kind"][0]);
        built.entry(what).or_default().push(serde_json::json!([unit["features"], unit["profile"]]));
        count += 1;
    }
    assert!(count > 100, "Cargo says less than it did: {count} units");
    built.retain(|_, ways| ways.len() > 1);
    assert!(built.is_empty(), "these are built twice, and differ in this: {built:#?}");
}

#[test]
fn the_first_build_and_the_deployed_one_build_every_crate_once() {
    assert_built_once(&["-p", "crux-demo"]);
    assert_built_once(&["-p", "crux", "--profile", "dist"]);
}
