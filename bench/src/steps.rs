//! The step structs of the workloads. They do as little as a step can do that reads its input and
//! gives a result of about 200 bytes: what is measured is everything around them.

use std::time::Duration;

use crux_runtime::{Input, Output, Step, StepContext, StepResult, workflow};

/// How many steps an instance of `ten` has.
pub const STEPS: u32 = 10;

/// A text that depends on the order and on what the step before gave, so that no step's input is
/// known before.
pub fn receipt(order: &str, before: &str) -> String {
    let sum =
        before.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    format!("{order}/{sum:08x}")
}

/// Fills a result up to about 200 bytes.
pub fn note() -> String {
    "Packed, weighed and handed over; the customer has been informed by mail, and the parcel can be followed from now on at any time of the day."
        .to_owned()
}

#[workflow(step = work)]
pub struct Work;

impl Step for Work {
    async fn run(&self, input: Input<Self>, _: &StepContext) -> StepResult<Self> {
        Ok(Output::<Self> { receipt: receipt(&input.order, &input.before), note: note() })
    }
}

/// Outlives every run: an attempt that is running when the process is killed.
#[workflow(step = slow_work)]
pub struct SlowWork;

impl Step for SlowWork {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(3600)) => {}
            () = cx.cancelled() => {}
        }
        Ok(Output::<Self> { receipt: input.order })
    }
}

/// All step structs, for the generated app.
pub fn steps() -> crate::pipelines::Steps {
    crate::pipelines::Steps { work: Work, slow_work: SlowWork }
}
