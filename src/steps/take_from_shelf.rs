use crux_runtime::{Input, Step, StepContext, StepResult, workflow};

/// Undoes `restock`: what was put on the shelf goes back to where parcels arrive.
#[workflow(step = take_from_shelf)]
pub struct TakeFromShelfStep;

impl Step for TakeFromShelfStep {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        match input.shelf {
            Some(shelf) => {
                tracing::info!(workflow_id = %cx.workflow_id(), "order {} leaves shelf {shelf}", input.order)
            }
            None => {
                tracing::info!(workflow_id = %cx.workflow_id(), "order {}: looked for on its shelf, in case it got there", input.order)
            }
        }
        Ok(())
    }
}
