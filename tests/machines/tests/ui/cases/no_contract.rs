//! A struct that can run is no step struct without #[workflow].

#[path = "../letters/generated/pipelines.rs"]
#[allow(dead_code)]
mod pipelines;
#[path = "../letters/steps.rs"]
#[allow(dead_code)]
mod steps;

use crux_runtime::{Step, StepContext, StepResult};

pub struct Bare;

impl Step for Bare {
    async fn run(&self, _: (), _: &StepContext) -> StepResult<Self> {
        Ok(())
    }
}

fn main() {}
