use crux_runtime::{Input, Step, StepContext, StepResult, workflow};

use super::numbers::with_check_digits;

/// Takes a credit note back. Nobody may know whether it was issued (its number is then absent): the
/// order tells which one it would be.
#[workflow(step = void_credit_note)]
pub struct VoidCreditNoteStep;

impl Step for VoidCreditNoteStep {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        let number = input.number.unwrap_or_else(|| with_check_digits("CN", &input.order));
        tracing::info!(workflow_id = %cx.workflow_id(), "credit note {number} is void");
        Ok(())
    }
}
