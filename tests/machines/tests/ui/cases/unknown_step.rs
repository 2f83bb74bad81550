//! The step type is misspelt.

#[path = "../letters/generated/pipelines.rs"]
#[allow(dead_code)]
mod pipelines;
#[path = "../letters/steps.rs"]
#[allow(dead_code)]
mod steps;

use crux_runtime::workflow;

#[workflow(step = write_leter)]
pub struct Misspelt;

fn main() {}
