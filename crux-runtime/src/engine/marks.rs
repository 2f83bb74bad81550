//! The marks of instances that are settled. An instance has one in the store from its append until the effects of its rows are done, so
//! that a restart finds it; clearing them takes a commit, and is done for many at a time.

use tokio::sync::watch;
use tracing::warn;

use crate::id::InstanceId;
use crate::store::{Settled, Store};

/// So many are cleared without waiting for more.
const MANY: usize = 256;

#[derive(Default)]
pub(super) struct Marks {
    settled: Vec<Settled>,
    /// Batches that the store is clearing. Whoever waits for one drops the other end when it is done.
    clearing: Vec<watch::Receiver<()>>,
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

    /// Whether the instance's is to be cleared.
    pub(super) fn has(&self, id: InstanceId) -> bool {
        self.settled.iter().any(|settled| settled.instance == id)
    }

    /// They are somebody else's now.
    pub(super) fn forget(&mut self) {
        self.settled.clear();
    }

    /// Has the store clear what there is.
    pub(super) fn clear(&mut self, store: &dyn Store) {
        if self.settled.is_empty() {
            return;
        }
        let clearing = store.settle(std::mem::take(&mut self.settled));
        let (under_way, batch) = watch::channel(());
        self.clearing.retain(is_under_way);
        self.clearing.push(batch);
        tokio::spawn(async move {
            if let Err(error) = clearing.await {
                // Lost marks cost a look after a restart, nothing else.
                warn!(%error, "marks could not be cleared");
            }
            drop(under_way);
        });
    }

    pub(super) fn are_being_cleared(&self) -> bool {
        self.clearing.iter().any(is_under_way)
    }

    /// Until the store has cleared, or could not, what it is clearing now.
    pub(super) fn cleared(&self) -> impl Future<Output = ()> + Send + use<> {
        let clearing = self.clearing.clone();
        async move {
            for mut batch in clearing {
                while batch.changed().await.is_ok() {}
            }
        }
    }
}

fn is_under_way(batch: &watch::Receiver<()>) -> bool {
    batch.has_changed().is_ok()
}
