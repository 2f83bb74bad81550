//! Pipelines with every construct of the language, compiled with warnings denied; their machines
//! are driven as the engine drives them.

#![deny(warnings)]
#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]

mod choices;
mod driver;
mod elements;
mod expressions;
mod journals;
mod lifecycle;
mod pipelines;
mod rescue;
mod schema;
mod steps;

/// As in the `main` of a package.
#[test]
fn every_pipeline_is_in_the_app() {
    let app = pipelines::app(steps::all());
    let files = std::fs::read_dir("pipelines").unwrap().count();
    assert!(app.workflows.len() >= files, "{} workflows in {files} files", app.workflows.len());
}
