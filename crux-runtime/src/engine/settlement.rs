//! The unsettled flags to clear. The store sets an instance's flag with its append and keeps it
//! until the effects of its rows are confirmed, so that a restart finds the instance. For example:
//! the hook of row 7 is published, nothing else is pending, and `settle` asks the store to clear
//! the flag up to row 7 and to remember when the next timer is due. Clearing takes a commit, so it
//! is done for many instances together.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tracing::warn;

use super::Core;
use crate::backoff::{self, Backoff};
use crate::id::InstanceId;
use crate::store::Settled;
use crate::supervise;

/// A batch of this size is cleared immediately.
const FLUSH_LEN: usize = 256;

#[derive(Default)]
pub(super) struct Settlement {
    settled: Vec<Settled>,
    clearing: Vec<Batch>,
}

/// Flags that the store is clearing.
struct Batch {
    instances: Vec<InstanceId>,
    /// Closed when the store has cleared them: unlike with a `watch`, waiters continue in the order
    /// in which they came.
    open: Arc<Semaphore>,
}

impl Settlement {
    /// Clears this one with the next batch.
    pub(super) fn settle(&mut self, settled: Settled) {
        self.settled.push(settled);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.settled.is_empty()
    }

    pub(super) fn is_batch_full(&self) -> bool {
        self.settled.len() >= FLUSH_LEN
    }

    /// The lease is lost: other nodes own them.
    pub(super) fn discard(&mut self) {
        self.settled.clear();
    }

    /// Clears the batch.
    pub(super) fn clear(&mut self, core: &Arc<Core>) {
        if self.settled.is_empty() {
            return;
        }
        self.clearing.retain(Batch::is_open);
        let settled = std::mem::take(&mut self.settled);
        let open = Arc::new(Semaphore::new(0));
        let done = open.clone();
        self.clearing.push(Batch {
            instances: settled.iter().map(|settled| settled.instance).collect(),
            open,
        });
        // Sent now, not when a task gets its turn.
        let clearing = core.store.settle(settled.clone());
        let core = core.clone();
        supervise::spawn("clearing unsettled flags", async move {
            if let Err(error) = clearing.await {
                warn!(%error, "cannot clear unsettled flags; retrying");
                clear_again(&core, settled).await;
            }
            done.close();
        });
    }

    /// Waits until the store has cleared what it is clearing now.
    pub(super) fn cleared(&self) -> impl Future<Output = ()> + Send + use<> {
        wait_for(self.clearing.iter().map(|batch| batch.open.clone()).collect())
    }

    /// Waits until the instance's flag is cleared, if that is pending; a reader before that would
    /// repeat its finished effects.
    pub(super) fn cleared_of(
        &mut self,
        id: InstanceId,
        core: &Arc<Core>,
    ) -> impl Future<Output = ()> + Send + use<> {
        if self.settled.iter().any(|settled| settled.instance == id) {
            self.clear(core);
        }
        let batches =
            self.clearing.iter().filter(|batch| batch.is_open() && batch.instances.contains(&id));
        wait_for(batches.map(|batch| batch.open.clone()).collect())
    }
}

impl Batch {
    fn is_open(&self) -> bool {
        !self.open.is_closed()
    }
}

/// Retries until it succeeds: an instance whose flag stays set repeats its effects when it is
/// loaded, and one whose wake-up is not stored sleeps on. Ends with this process, because the next
/// one loads whatever has a flag.
async fn clear_again(core: &Core, settled: Vec<Settled>) {
    let seed = settled.first().map_or(0, |settled| settled.instance.seed());
    let mut backoff = Backoff::of(backoff::STORE, seed);
    while !core.is_closing() {
        tokio::time::sleep(backoff.pause()).await;
        match core.store.settle(settled.clone()).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "cannot clear unsettled flags; retrying"),
        }
    }
}

async fn wait_for(batches: Vec<Arc<Semaphore>>) {
    for batch in batches {
        // It has no permits: acquiring fails when it is closed.
        let _ = batch.acquire().await;
    }
}
