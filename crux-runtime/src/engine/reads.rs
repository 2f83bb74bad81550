//! What can be read without asking a shard: from the store, the bus and the executor. They stay
//! behind the engine, so that the service has one place to ask.

use super::Engine;
use crate::bus::broker::worker_registry;
use crate::executor;
use crate::id::InstanceId;
use crate::live::Follower;
use crate::machine::Time;
use crate::store::{Error, Filter, Record, Seq, Stored};

impl Engine {
    /// An instance's record; `None`: there is no such instance.
    pub async fn record(&self, instance: InstanceId) -> Result<Option<Record>, Error> {
        self.core.store.record(instance).await
    }

    /// At most `limit` rows of an instance's journal, from the one after `after`.
    pub async fn rows(
        &self,
        instance: InstanceId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Stored>, Error> {
        self.core.store.rows(instance, after, limit).await
    }

    /// Records, newest first.
    pub(crate) async fn list(&self, filter: Filter) -> Result<Vec<Record>, Error> {
        self.core.store.list(filter).await
    }

    /// The document of a definition, by its hash.
    pub(crate) async fn definition(&self, hash: &str) -> Result<Option<String>, Error> {
        self.core.store.definition(hash.to_owned()).await
    }

    /// Follows an instance from now on; what is older is in its rows.
    pub(crate) fn follow(&self, instance: InstanceId) -> Follower {
        self.core.hub.follow(instance)
    }

    /// Why nothing can be written to the store, if so.
    pub(crate) fn store_problem(&self) -> Option<String> {
        self.core.store.problem()
    }

    /// Whether the bus works; the error is for people.
    pub(crate) fn bus_health(&self) -> Result<(), String> {
        self.core.bus.health()
    }

    /// Why messages of the bus are parked, if some are.
    pub(crate) fn parked_messages(&self) -> Option<String> {
        self.core.bus.parked()
    }

    /// Step structs in this process.
    pub(crate) fn executors(&self) -> Vec<executor::Listing> {
        self.core.workers.list()
    }

    /// Worker processes whose heartbeats reach this node.
    pub(crate) fn remote_workers(&self, now: Time) -> Vec<worker_registry::Listing> {
        self.core.bus.worker_registry().map_or_else(Vec::new, |registry| registry.list(now))
    }

    /// Whether this process or a live worker takes tasks of that step type.
    pub(crate) fn is_served(&self, step_type: &str) -> bool {
        let registry = self.core.bus.worker_registry();
        self.core.workers.runs(step_type)
            || registry.is_some_and(|registry| registry.runs(step_type))
    }
}
