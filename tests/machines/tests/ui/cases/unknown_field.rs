//! The struct reads a field that the input of its step type has not.

#[path = "../letters/generated/pipelines.rs"]
#[allow(dead_code)]
mod pipelines;
#[path = "../letters/steps.rs"]
#[allow(dead_code)]
mod steps;

use crux_runtime::{Input, Step, StepContext, StepResult, workflow};

#[workflow(step = write_letter)]
pub struct Other;

impl Step for Other {
    async fn run(&self, input: Input<Self>, _: &StepContext) -> StepResult<Self> {
        Ok(pipelines::steps::write_letter::Output { pages: input.pages })
    }
}

fn main() {}
