//! Step structs as they should be.

use crux_runtime::{Input, Output, Step, StepContext, StepResult, workflow};

#[workflow(step = write_letter, routing_key = "step.write_letter")]
pub struct LetterStep;

impl Step for LetterStep {
    async fn run(&self, input: Input<Self>, _: &StepContext) -> StepResult<Self> {
        if input.customer.is_empty() {
            return Err(crate::pipelines::steps::write_letter::Error::NoAddress("nobody".into()).into());
        }
        Ok(Output::<Self> { pages: 1 })
    }
}

#[workflow(step = file_letter, blocking)]
pub struct FileStep;

impl Step for FileStep {
    async fn run(&self, _: Input<Self>, _: &StepContext) -> StepResult<Self> {
        Ok(())
    }
}
