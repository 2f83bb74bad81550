//! The struct gives something else than its step type.

#[path = "../letters/generated/pipelines.rs"]
#[allow(dead_code)]
mod pipelines;
#[path = "../letters/steps.rs"]
#[allow(dead_code)]
mod steps;

use crux_runtime::{Input, Output, Step, StepContext, StepResult, workflow};

#[workflow(step = write_letter)]
pub struct Other;

impl Step for Other {
    async fn run(&self, _: Input<Self>, _: &StepContext) -> StepResult<Self> {
        Ok(Output::<Self> { pages: "one" })
    }
}

fn main() {}
