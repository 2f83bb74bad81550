//! The routing key, typed again, is not that of the step type.

#[path = "../letters/generated/pipelines.rs"]
#[allow(dead_code)]
mod pipelines;
#[path = "../letters/steps.rs"]
#[allow(dead_code)]
mod steps;

use crux_runtime::workflow;

#[workflow(step = write_letter, routing_key = "step.write_leter")]
pub struct Typed;

#[workflow(step = write_letter, routing_key = routes::STEP_ARCHIVE)]
pub struct OfAnother;

fn main() {}
