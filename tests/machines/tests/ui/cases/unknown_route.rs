//! There is no such constant of a routing key.

#[path = "../letters/generated/pipelines.rs"]
#[allow(dead_code)]
mod pipelines;
#[path = "../letters/steps.rs"]
#[allow(dead_code)]
mod steps;

use crux_runtime::workflow;

#[workflow(step = write_letter, routing_key = routes::STEP_ARCHIV)]
pub struct Other;

fn main() {}
