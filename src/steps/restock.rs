use crux_runtime::{Input, Output, Step, StepContext, StepResult, workflow};

/// Puts what came back on a shelf: always the same one for the same order.
#[workflow(step = restock)]
pub struct RestockStep;

/// Rows are lettered, places in a row numbered.
const ROWS: [char; 6] = ['A', 'B', 'C', 'D', 'E', 'F'];
const PLACES: u32 = 24;

impl RestockStep {
    fn shelf(order: &str) -> String {
        let sum = order
            .bytes()
            .fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let row = ROWS.iter().cycle().nth(sum as usize % ROWS.len()).copied().unwrap_or('A');
        format!("{row}-{:02}", sum / 7 % PLACES + 1)
    }
}

impl Step for RestockStep {
    async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {
        let shelf = Self::shelf(&input.order);
        tracing::info!(workflow_id = %cx.workflow_id(), "order {} goes to shelf {shelf}", input.order);
        Ok(Output::<Self> { shelf })
    }
}

#[cfg(test)]
mod tests {
    use super::RestockStep;

    #[test]
    fn an_order_has_one_shelf() {
        assert_eq!(RestockStep::shelf("ORD-1"), RestockStep::shelf("ORD-1"));
        assert_ne!(RestockStep::shelf("ORD-1"), RestockStep::shelf("ORD-2"));
    }
}
