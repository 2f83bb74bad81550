use crux_runtime::{Error, Input, Output, Step, StepContext, StepError, StepResult, workflow};

/// Pays money back. No bank is called: the payment goes to the log. As with the test accounts of
/// banks, a customer whose id begins with `closed-` has no account any more, so that it can be seen
/// how a refund is undone.
#[workflow(step = pay_back)]
pub struct PayBackStep;

impl Step for PayBackStep {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        if input.customer.starts_with("closed-") {
            return Err(StepError::raised(Error::<Self>::AccountClosed(format!(
                "customer {} has no account any more",
                input.customer
            ))));
        }
        tracing::info!(workflow_id = %cx.workflow_id(), customer = %input.customer, "paid back {} cents for {}", input.amount_cents, input.reference);
        // A bank takes the key with the payment and answers a repetition with the payment that it
        // has made already.
        Ok(Output::<Self> { payment_id: cx.key().replace('/', "-") })
    }
}

#[cfg(test)]
mod tests {
    use crux_runtime::{Input, testing};

    use super::PayBackStep;

    fn input(customer: &str) -> Input<PayBackStep> {
        Input::<PayBackStep> {
            customer: customer.to_owned(),
            amount_cents: 1_200,
            reference: "CN-1".to_owned(),
        }
    }

    #[test]
    fn a_closed_account_has_its_own_error() {
        let failed = testing::run(&PayBackStep, input("closed-7")).unwrap_err();
        assert_eq!(failed.failure.name, "AccountClosed");
        assert!(testing::run(&PayBackStep, input("CUST-7")).is_ok());
    }
}
