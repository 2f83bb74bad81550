//! The struct of a class does not say what it does.

#[path = "../letters/generated/pipelines.rs"]
#[allow(dead_code)]
mod pipelines;

#[allow(dead_code)]
mod steps {
    use crux_runtime::{Input, Output, Step, StepContext, StepResult, workflow};

    #[workflow(step = write_letter)]
    pub struct LetterStep;

    impl Step for LetterStep {
        async fn run(&self, _: Input<Self>, _: &StepContext) -> StepResult<Self> {
            Ok(Output::<Self> { pages: 1 })
        }
    }

    #[workflow(step = file_letter)]
    pub struct FileStep;
}

fn main() {}
