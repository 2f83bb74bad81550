//! The number of instances by workflow and state. The store is asked, because most instances are
//! not in memory; only when metrics are read, and at most once per interval.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::debug;

use super::Core;
use crate::store::{Count, Status};

/// Younger counts are reused.
const COUNTS_MAX_AGE: Duration = Duration::from_secs(10);
/// How long a reader of metrics waits for the counts.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct InstanceCounts {
    /// `None`: not known, for the store does not say.
    known: Mutex<Option<Vec<Count>>>,
    /// One reads at a time.
    read_at: tokio::sync::Mutex<Option<Instant>>,
}

impl InstanceCounts {
    pub(super) fn known(&self) -> Option<Vec<Count>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Core {
    pub(super) async fn count_instances(&self) {
        let Ok(mut read_at) = self.census.read_at.try_lock() else { return };
        if read_at.is_some_and(|at| at.elapsed() < COUNTS_MAX_AGE) {
            return;
        }
        let mut names: Vec<&str> =
            self.app.workflows.iter().map(|workflow| workflow.definition.workflow).collect();
        names.sort_unstable();
        names.dedup();
        let workflows = names.iter().map(|name| (*name).to_owned()).collect();
        let counts = match timeout(COUNT_TIMEOUT, self.store.count(workflows)).await {
            Ok(Ok(counts)) => Some(counts),
            Ok(Err(error)) => {
                debug!(%error, "cannot count instances");
                None
            }
            Err(_) => {
                debug!("counting instances timed out");
                None
            }
        };
        let all = counts.map(|counts| complete(&names, &counts));
        *self.census.known.lock().unwrap_or_else(PoisonError::into_inner) = all;
        *read_at = Some(Instant::now());
    }
}

/// Also zero counts: alarms need them.
fn complete(workflows: &[&str], counts: &[Count]) -> Vec<Count> {
    // No instance is `pending`, which is a state of steps.
    let statuses = Status::open().filter(|status| *status != Status::Pending);
    let places = workflows
        .iter()
        .flat_map(|workflow| statuses.clone().map(move |status| (*workflow, status)));
    let of = |(workflow, status): (&str, Status)| {
        let found =
            counts.iter().find(|count| count.workflow == workflow && count.status == status);
        let instances = found.map_or(0, |count| count.instances);
        Count { workflow: workflow.to_owned(), status, instances }
    };
    places.map(of).collect()
}
