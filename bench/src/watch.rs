//! A store that tells who waits for an instance that its end is durable. It passes everything on to
//! the store that it wraps and adds a look at what is appended, so that the workloads need neither
//! polling nor a server to learn of the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crux_runtime::id::InstanceId;
use crux_runtime::machine::Time;
use crux_runtime::store::peers::Peers;
use crux_runtime::store::{
    Append, Appended, Count, Error, Filter, InUse, KeptEvent, Membership, Pending, Record, Seq,
    Settled, Store, Stored, Subscription, UndeliveredEvent,
};
use tokio::sync::{oneshot, watch};

/// Who waits, or which ends nobody has waited for yet.
#[derive(Debug, Default)]
pub struct Ends {
    known: Mutex<HashMap<InstanceId, Option<oneshot::Sender<()>>>>,
}

impl Ends {
    /// Waits until the instance's last row is durable. Once per instance.
    pub async fn wait(&self, instance: InstanceId) {
        let ended = {
            let mut known = self.lock();
            if known.remove(&instance).is_some() {
                return;
            }
            let (end, ended) = oneshot::channel();
            known.insert(instance, Some(end));
            ended
        };
        // The sender is dropped only with the store, when the run is over.
        let _ = ended.await;
    }

    fn end(&self, instance: InstanceId) {
        let mut known = self.lock();
        match known.remove(&instance) {
            // The receiver may have been dropped.
            Some(Some(end)) => _ = end.send(()),
            Some(None) => {}
            None => _ = known.insert(instance, None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Option<oneshot::Sender<()>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub struct Watched<S> {
    store: S,
    ends: Arc<Ends>,
}

impl<S: Store> Watched<S> {
    pub fn new(store: S) -> (Self, Arc<Ends>) {
        let ends = Arc::new(Ends::default());
        (Self { store, ends: ends.clone() }, ends)
    }
}

impl<S: Store> Store for Watched<S> {
    fn append(&self, batch: Vec<Append>) -> Pending<Vec<Result<Appended, Error>>> {
        let ended: Vec<InstanceId> = batch
            .iter()
            .filter(|append| append.record.is_some_and(|record| record.ended.is_some()))
            .map(|append| append.instance)
            .collect();
        let appending = self.store.append(batch);
        if ended.is_empty() {
            return appending;
        }
        let ends = self.ends.clone();
        Box::pin(async move {
            let results = appending.await;
            ended.into_iter().for_each(|instance| ends.end(instance));
            results
        })
    }

    fn settle(&self, batch: Vec<Settled>) -> Pending<Result<(), Error>> {
        self.store.settle(batch)
    }

    fn record(&self, instance: InstanceId) -> Pending<Result<Option<Record>, Error>> {
        self.store.record(instance)
    }

    fn rows(
        &self,
        instance: InstanceId,
        after: Seq,
        limit: usize,
    ) -> Pending<Result<Vec<Stored>, Error>> {
        self.store.rows(instance, after, limit)
    }

    fn list(&self, filter: Filter) -> Pending<Result<Vec<Record>, Error>> {
        self.store.list(filter)
    }

    fn unsettled(
        &self,
        after: Option<InstanceId>,
        limit: usize,
    ) -> Pending<Result<Vec<InstanceId>, Error>> {
        self.store.unsettled(after, limit)
    }

    fn due(
        &self,
        after: Option<(Time, InstanceId)>,
        until: Time,
        limit: usize,
    ) -> Pending<Result<Vec<(Time, InstanceId)>, Error>> {
        self.store.due(after, until, limit)
    }

    fn claim(&self, batch: Vec<InstanceId>) -> Pending<Result<Vec<InstanceId>, Error>> {
        self.store.claim(batch)
    }

    fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.store.peers()
    }

    fn membership(&self) -> watch::Receiver<Membership> {
        self.store.membership()
    }

    fn subscribe(&self, batch: Vec<Subscription>) -> Pending<Result<(), Error>> {
        self.store.subscribe(batch)
    }

    fn unsubscribe(&self, batch: Vec<Subscription>) -> Pending<Result<(), Error>> {
        self.store.unsubscribe(batch)
    }

    fn subscribers(
        &self,
        event: String,
        value: Option<String>,
        after: Option<Subscription>,
        limit: usize,
    ) -> Pending<Result<Vec<Subscription>, Error>> {
        self.store.subscribers(event, value, after, limit)
    }

    fn keep(&self, batch: Vec<KeptEvent>) -> Pending<Result<Vec<bool>, Error>> {
        self.store.keep(batch)
    }

    fn kept(
        &self,
        event: String,
        value: Option<String>,
        now: Time,
    ) -> Pending<Result<Vec<KeptEvent>, Error>> {
        self.store.kept(event, value, now)
    }

    fn delivered(&self, batch: Vec<(String, String)>) -> Pending<Result<(), Error>> {
        self.store.delivered(batch)
    }

    fn started(&self, batch: Vec<(String, String)>) -> Pending<Result<(), Error>> {
        self.store.started(batch)
    }

    fn undelivered(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Pending<Result<Vec<UndeliveredEvent>, Error>> {
        self.store.undelivered(after, limit)
    }

    fn in_use(&self) -> Pending<Result<Vec<InUse>, Error>> {
        self.store.in_use()
    }

    fn count(&self, workflows: Vec<String>) -> Pending<Result<Vec<Count>, Error>> {
        self.store.count(workflows)
    }

    fn define(&self, hash: String, document: String) -> Pending<Result<(), Error>> {
        self.store.define(hash, document)
    }

    fn definition(&self, hash: String) -> Pending<Result<Option<String>, Error>> {
        self.store.definition(hash)
    }

    fn expire(&self, now: Time, limit: usize) -> Pending<Result<usize, Error>> {
        self.store.expire(now, limit)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.store.free_bytes()
    }

    fn close(&self) -> Pending<Result<(), Error>> {
        self.store.close()
    }
}
