use crux_runtime::{Input, Output, Step, StepContext, StepResult, workflow};

/// Tells a customer something. There is no mailer here: the message goes to the log, where it can
/// be seen.
#[workflow(step = send_notification)]
pub struct NotificationStep;

impl Step for NotificationStep {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        tracing::info!(workflow_id = %cx.workflow_id(), customer = %input.customer, subject = %input.subject, "notification: {}", input.text);
        // A mailer would get this key too, and not send the same message again.
        Ok(Output::<Self> { message_id: cx.key() })
    }
}
