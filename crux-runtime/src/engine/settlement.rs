//! The marks of instances that are settled. An instance has one in the store from its append until
//! the effects of its rows are done, so that a restart finds it; clearing them takes a commit, and
//! is done for many at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tracing::warn;

use super::Core;
use crate::backoff::{self, Backoff};
use crate::id::InstanceId;
use crate::store::Settled;
use crate::supervise;

/// So many are cleared without waiting for more.
const MANY: usize = 256;

#[derive(Default)]
pub(super) struct Marks {
    settled: Vec<Settled>,
    clearing: Vec<Batch>,
}

/// Marks that the store is clearing.
struct Batch {
    instances: Vec<InstanceId>,
    /// Closed when the store has cleared them: whoever waits for it goes on in the order in which
    /// they came, unlike with a `watch`.
    under_way: Arc<Semaphore>,
}

impl Marks {
    /// This one is to be cleared.
    pub(super) fn settle(&mut self, settled: Settled) {
        self.settled.push(settled);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.settled.is_empty()
    }

    pub(super) fn are_many(&self) -> bool {
        self.settled.len() >= MANY
    }

    /// They are somebody else's now.
    pub(super) fn forget(&mut self) {
        self.settled.clear();
    }

    /// Has the store clear what there is.
    pub(super) fn clear(&mut self, core: &Arc<Core>) {
        if self.settled.is_empty() {
            return;
        }
        self.clearing.retain(Batch::is_under_way);
        let settled = std::mem::take(&mut self.settled);
        let under_way = Arc::new(Semaphore::new(0));
        let done = under_way.clone();
        self.clearing.push(Batch {
            instances: settled.iter().map(|settled| settled.instance).collect(),
            under_way,
        });
        // Asked for at once, not when a task gets its turn.
        let clearing = core.store.settle(settled.clone());
        let core = core.clone();
        supervise::spawn("clearing marks", async move {
            if let Err(error) = clearing.await {
                warn!(%error, "marks could not be cleared; trying again");
                clear_again(&core, settled).await;
            }
            done.close();
        });
    }

    /// Until the store has cleared what it is clearing now.
    pub(super) fn cleared(&self) -> impl Future<Output = ()> + Send + use<> {
        wait_for(self.clearing.iter().map(|batch| batch.under_way.clone()).collect())
    }

    /// Has the store clear the instance's mark if it is to be cleared, and waits until it has, if
    /// it is clearing it. Whoever read the instance before would take its effects for not done.
    pub(super) fn cleared_of(
        &mut self,
        id: InstanceId,
        core: &Arc<Core>,
    ) -> impl Future<Output = ()> + Send + use<> {
        if self.settled.iter().any(|settled| settled.instance == id) {
            self.clear(core);
        }
        let batches = self
            .clearing
            .iter()
            .filter(|batch| batch.is_under_way() && batch.instances.contains(&id));
        wait_for(batches.map(|batch| batch.under_way.clone()).collect())
    }
}

impl Batch {
    fn is_under_way(&self) -> bool {
        !self.under_way.is_closed()
    }
}

/// Until it succeeds: an instance whose mark stays repeats its effects when it comes back to
/// memory, and one whose wake-up is not stored sleeps on. Not beyond the end of this process, for
/// the next one looks at whatever has a mark.
async fn clear_again(core: &Core, settled: Vec<Settled>) {
    let seed = settled.first().map_or(0, |settled| settled.instance.seed());
    let mut backoff = Backoff::of(backoff::STORE, seed);
    while !core.is_closing() {
        tokio::time::sleep(backoff.pause()).await;
        match core.store.settle(settled.clone()).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "marks could not be cleared; trying again"),
        }
    }
}

async fn wait_for(batches: Vec<Arc<Semaphore>>) {
    for batch in batches {
        // There are no permits: this is how it says that it is closed.
        let _ = batch.acquire().await;
    }
}
