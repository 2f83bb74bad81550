//! The struct raises an error, and its step type names none.

#[path = "../letters/generated/pipelines.rs"]
#[allow(dead_code)]
mod pipelines;
#[path = "../letters/steps.rs"]
#[allow(dead_code)]
mod steps;

use crux_runtime::{Error, Input, Step, StepContext, StepError, StepResult, workflow};

#[workflow(step = file_letter)]
pub struct Other;

impl Step for Other {
    async fn run(&self, _: Input<Self>, _: &StepContext) -> StepResult<Self> {
        Err(StepError::raised(Error::<Self>::NoPaper("none left".to_owned())))
    }
}

fn main() {}
