//! The struct takes something else than its step type.

#[path = "../letters/generated/pipelines.rs"]
#[allow(dead_code)]
mod pipelines;
#[path = "../letters/steps.rs"]
#[allow(dead_code)]
mod steps;

use crux_runtime::{Step, StepContext, StepResult, workflow};

#[workflow(step = write_letter)]
pub struct Other;

pub struct MyInput;

impl Step for Other {
    async fn run(&self, _: MyInput, _: &StepContext) -> StepResult<Self> {
        Ok(pipelines::steps::write_letter::Output { pages: 1 })
    }
}

fn main() {}
