//! The step structs that the pipelines name. Nothing here runs.

use crux_runtime::{Input, Step, StepContext, StepError, StepResult, workflow};

macro_rules! step {
    ($($step:ident $name:ident;)*) => {$(
        #[workflow(step = $step)]
        pub struct $name;

        impl Step for $name {
            async fn run(&self, _: Input<Self>, _: &StepContext) -> StepResult<Self> {
                Err(StepError::failed("nothing runs here"))
            }
        }
    )*

        /// All of them, as the pipelines want them.
        pub fn all() -> crate::pipelines::Steps {
            crate::pipelines::Steps { $($step: $name),* }
        }
    };
}

step! {
    r#fn FnStep;
    finalize_order FinalizeOrderStep;
    issue_credit_note CreditNoteStep;
    pack PackStep;
    pay_back PayBackStep;
    restock RestockStep;
    send_notification NotificationStep;
    take_from_shelf TakeFromShelfStep;
    void_credit_note VoidCreditNoteStep;
    weigh WeighStep;
}
