//! The step structs of these tests.

use crux_runtime::{Input, Output, Step, StepContext, StepError, StepResult, workflow};

use crate::pipelines::Steps;

/// Doubles; a negative number makes it panic, 13 makes it fail.
#[workflow(step = double)]
pub struct DoubleStep;

impl Step for DoubleStep {
    async fn run(&self, input: Input<Self>, _: &StepContext) -> StepResult<Self> {
        assert!(input.number >= 0, "a negative number");
        if input.number == 13 {
            return Err(StepError::failed("13 brings bad luck"));
        }
        Ok(Output::<Self> { number: input.number.saturating_mul(2) })
    }
}

/// Says that it is awake.
#[workflow(step = wake_up)]
pub struct WakeUpStep;

impl Step for WakeUpStep {
    async fn run(&self, _: Input<Self>, _: &StepContext) -> StepResult<Self> {
        Ok(Output::<Self> { said: "good morning".to_owned() })
    }
}

/// Asks somebody who takes an hour.
#[workflow(step = ask)]
pub struct AskStep {
    oracle: Oracle,
}

impl Step for AskStep {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        tokio::select! {
            answer = self.oracle.ask(&input.question) => Ok(Output::<Self> { answer: answer? }),
            () = cx.cancelled() => Err(StepError::failed("nobody waits for the answer any more")),
        }
    }
}

struct Oracle;

impl Oracle {
    async fn ask(&self, question: &str) -> std::io::Result<String> {
        tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
        Ok(format!("{question} 42"))
    }
}

pub fn steps() -> Steps {
    Steps { ask: AskStep { oracle: Oracle }, double: DoubleStep, wake_up: WakeUpStep }
}
