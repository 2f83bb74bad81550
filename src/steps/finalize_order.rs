use crux_runtime::machine::Timestamp;
use crux_runtime::{Input, Output, Step, StepContext, StepError, StepResult, workflow};

use super::numbers::with_check_digits;

/// Gives an order its confirmation number and the time at which it became final.
#[workflow(step = finalize_order)]
pub struct FinalizeOrderStep;

impl Step for FinalizeOrderStep {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        if !input.order.chars().any(|c| c.is_ascii_alphanumeric()) {
            return Err(StepError::invalid_input(format!(
                "order: `{}` has neither letters nor digits",
                input.order
            )));
        }
        let confirmation = with_check_digits("C", &input.order);
        tracing::info!(workflow_id = %cx.workflow_id(), customer = %input.customer, notified_by = %input.notified_by, "order final: {confirmation}");
        Ok(Output::<Self> { confirmation, finalized_at: Timestamp::now() })
    }
}
