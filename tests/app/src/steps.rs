//! The step structs of these tests.

use std::io::Write;

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

/// Asks a person who takes an hour.
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

/// Writes down that it begins, takes its time, and writes down that it ends.
#[workflow(step = timed_work)]
pub struct TimedWorkStep;

impl Step for TimedWorkStep {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        Ok(Output::<Self> { pid: timed_work(&input.ledger, input.ms, cx).await? })
    }
}

/// The same, for what must not begin twice.
#[workflow(step = work_once)]
pub struct WorkOnceStep;

impl Step for WorkOnceStep {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        Ok(Output::<Self> { pid: timed_work(&input.ledger, input.ms, cx).await? })
    }
}

/// A line is `begin` or `end`, the process, and the step's key.
async fn timed_work(ledger: &str, ms: i64, cx: &StepContext) -> std::io::Result<i64> {
    let pid = std::process::id();
    let write = |what: &str| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(ledger)?;
        file.write_all(format!("{what} {pid} {}\n", cx.key()).as_bytes())
    };
    write("begin")?;
    tokio::time::sleep(std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0))).await;
    write("end")?;
    Ok(i64::from(pid))
}

pub fn steps() -> Steps {
    Steps {
        ask: AskStep { oracle: Oracle },
        double: DoubleStep,
        timed_work: TimedWorkStep,
        work_once: WorkOnceStep,
        wake_up: WakeUpStep,
    }
}
