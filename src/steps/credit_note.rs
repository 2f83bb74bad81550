use crux_runtime::{Input, Output, Step, StepContext, StepResult, workflow};

use super::numbers::with_check_digits;

/// Writes the credit note of a refund: its number, and how much of the money is tax. Of one order
/// it is always the same, so that issuing it twice is issuing it once.
#[workflow(step = issue_credit_note)]
pub struct CreditNoteStep {
    /// Contained in every price.
    tax_percent: i64,
}

impl Default for CreditNoteStep {
    fn default() -> Self {
        Self { tax_percent: 20 }
    }
}

impl CreditNoteStep {
    /// Of a price in cents, rounded half up.
    fn net(&self, gross: i64) -> i64 {
        let (percent, whole) = (100 + self.tax_percent, 100);
        (gross * whole * 2 + percent) / (percent * 2)
    }
}

impl Step for CreditNoteStep {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        let number = with_check_digits("CN", &input.order);
        let net_cents = self.net(input.amount_cents);
        tracing::info!(workflow_id = %cx.workflow_id(), "credit note {number} over {} cents", input.amount_cents);
        Ok(Output::<Self> { number, net_cents, tax_cents: input.amount_cents - net_cents })
    }
}

#[cfg(test)]
mod tests {
    use super::CreditNoteStep;

    #[test]
    fn tax_is_contained_in_the_price() {
        let step = CreditNoteStep::default();
        assert_eq!(step.net(12_000), 10_000);
        assert_eq!(step.net(1), 1);
        assert_eq!(step.net(99), 83, "82.5 is rounded up");
        assert_eq!(step.net(100_000_000), 83_333_333);
    }
}
