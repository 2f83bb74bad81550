//! Loads an instance into memory: read, replay, and repeat unconfirmed effects.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{debug, error};

use super::api::{self, Error};
use super::message::{Loading, Message, Read, refuse};
use super::replay::{Replayed, replay};
use super::shard::{Shard, Slot};
use crate::backoff;
use crate::engine::active_instance::{ActiveInstance, Input};
use crate::engine::outbox::Outbox;
use crate::engine::running_attempts::RunningAttempts;
use crate::id::InstanceId;
use crate::machine::{Failure, Time};
use crate::store::{self, Record, Stored};
use crate::supervise;
use crate::task::Origin;

impl Shard {
    /// Drops the state and replays the journal, then applies what arrived meanwhile.
    pub(super) fn reload(&mut self, id: InstanceId) {
        let queue = match self.slots.get_mut(&id) {
            Some(Slot::Ready(active)) => std::mem::take(&mut active.queue),
            _ => return,
        };
        self.unload(id);
        self.load(id, queue, true);
    }

    /// Loads an instance so that the queued inputs can be applied (`must_load`: even if there are
    /// none). Waits for a pending clear of its unsettled flag first; otherwise finished effects
    /// would be repeated.
    pub(super) fn load(&mut self, id: InstanceId, queue: VecDeque<Input>, must_load: bool) {
        self.load_after(0, id, queue, must_load);
    }

    fn load_after(&mut self, failed: u32, id: InstanceId, queue: VecDeque<Input>, must_load: bool) {
        self.loads += 1;
        let number = self.loads;
        self.slots.insert(id, Slot::Loading(Loading { number, queue, must_load, failed }));
        let store = self.core.store.clone();
        let cleared = self.settlement.cleared_of(id, &self.core);
        let messages = self.messages.clone();
        supervise::spawn("loading an instance", async move {
            if let Some(failed) = failed.checked_sub(1) {
                tokio::time::sleep(backoff::STORE.after(failed, id.seed())).await;
            }
            cleared.await;
            let result = read_all(&*store, id).await;
            let _ = messages.send(Message::Loaded(id, number, Box::new(result))).await;
        });
    }

    pub(super) fn loaded(
        &mut self,
        id: InstanceId,
        number: u64,
        result: Result<Option<Read>, store::Error>,
        now: Time,
    ) {
        if !matches!(self.slots.get(&id), Some(Slot::Loading(loading)) if loading.number == number)
        {
            return;
        }
        let Some(Slot::Loading(Loading { queue, must_load, failed, .. })) = self.slots.remove(&id)
        else {
            return;
        };
        let refuse = |queue: VecDeque<Input>, error: &Error| {
            queue.into_iter().for_each(|input| refuse(input, error.clone()))
        };
        let Read { record, rows, is_owned } = match result {
            Ok(Some(found)) => found,
            Ok(None) => return refuse(queue, &Error::UnknownInstance(id)),
            Err(error) if Error::Store(error.clone()).is_passing() => {
                let failed = failed.saturating_add(1);
                return self.load_again(failed, id, queue, must_load, &error);
            }
            Err(error) => return refuse(queue, &Error::Store(error)),
        };
        // An ended instance is not replayed for questions that its journal answers; only a retry
        // may bring it back.
        let revives = queue.iter().any(|input| {
            matches!(input, Input::Command { command: api::Command::Retry { .. }, .. })
        });
        if let Some(node) = record.owner_node.filter(|_| !is_owned) {
            return refuse(queue, &Error::OwnerUnreachable { node });
        }
        let is_wanted = must_load || queue.iter().any(|input| matches!(input, Input::Wake { .. }));
        let settled = record.settled
            || rows.last().is_none_or(|last| rows.iter().any(|row| row.settled >= last.seq));
        if record.status.is_ended() && !revives && (settled || !is_wanted) {
            return refuse(queue, &Error::InvalidState("the instance has ended".to_owned()));
        }
        let core = self.core.clone();
        let replayed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            replay(&core.app, id, &record, &rows)
        }));
        let replayed = match replayed {
            Ok(Ok(replayed)) => replayed,
            Ok(Err(error)) => {
                self.core.no_definition(&error);
                if !matches!(error, Error::DefinitionMissing { .. }) {
                    error!(instance = %id, %error, "the journal cannot be replayed");
                }
                return refuse(queue, &error);
            }
            Err(_) => {
                error!(instance = %id, "replaying the journal panicked");
                return refuse(
                    queue,
                    &Error::Corrupted(Failure::new(
                        Failure::PANIC,
                        "replaying the journal panicked",
                    )),
                );
            }
        };
        self.adopt(id, record, replayed, queue, now);
    }

    /// The store is away. Callers get the error and may retry; what nothing else would retry waits
    /// for the store.
    fn load_again(
        &mut self,
        failed: u32,
        id: InstanceId,
        queue: VecDeque<Input>,
        must_load: bool,
        error: &store::Error,
    ) {
        let is_own =
            |input: &Input| matches!(input, Input::Wake { .. } | Input::Report(_) | Input::Park(_));
        let (own, asked): (VecDeque<Input>, VecDeque<Input>) = queue.into_iter().partition(is_own);
        let refuse = |input| refuse(input, Error::Store(error.clone()));
        asked.into_iter().for_each(refuse);
        // The store names timers again; recovery looks for unsettled instances only once.
        let is_left = own.iter().any(|input| matches!(input, Input::Wake { ack: Some(_) }));
        if (must_load || is_left) && !self.core.is_closing() {
            debug!(instance = %id, %error, "cannot load an instance; retrying");
            return self.load_after(failed, id, own, must_load);
        }
        own.into_iter().for_each(refuse);
    }

    fn adopt(
        &mut self,
        id: InstanceId,
        record: Record,
        replayed: Replayed,
        queue: VecDeque<Input>,
        now: Time,
    ) {
        let Replayed { instance, traceparent, seq, last_at, journal_size, unsettled } = replayed;
        let metrics = self.metrics.place(instance.definition());
        let origin = Arc::new(Origin {
            workflow: instance.definition().workflow.into(),
            workflow_id: id.to_string(),
            request_id: instance.env().request_id.clone(),
            traceparent,
            tokens: self.core.options.tokens.clone(),
            payload: self.core.shown_input(instance.definition(), &instance.env().input),
        });
        let mut active = ActiveInstance {
            instance,
            origin,
            seq,
            last_at,
            journal_size,
            status: Some(record.status),
            appending: None,
            queue,
            deferred_events: Vec::new(),
            outbox: Outbox::default(),
            running: RunningAttempts::default(),
            timer: None,
            counted: false,
            // A set flag must be cleared even if nothing is left to do.
            settled_stored: if record.settled { seq } else { 0 },
            // It may be that it was loaded because of that.
            wake_stored: Some(last_at),
            idle_ticket: None,
            metrics,
        };
        self.timers.forget_evicted(id);
        if !unsettled.is_empty() {
            active.count(true, &self.core.stats);
        }
        self.slots.insert(id, Slot::Ready(Box::new(active)));
        self.core.stats.cached.fetch_add(1, Ordering::Relaxed);
        if !unsettled.is_empty() {
            self.recover(id, unsettled);
        }
        self.work(id, None, now);
    }
}

async fn read_all(store: &dyn store::Store, id: InstanceId) -> Result<Option<Read>, store::Error> {
    const PAGE_LEN: usize = 1024;
    let Some(record) = store.record(id).await? else { return Ok(None) };
    // Only the owner node repeats its pending effects.
    let is_owned = record.settled || !store.claim(vec![id]).await?.is_empty();
    if !is_owned {
        return Ok(Some(Read { record, rows: Vec::new(), is_owned }));
    }
    let mut rows: Vec<Stored> = Vec::new();
    loop {
        let page = store.rows(id, rows.last().map_or(0, |row| row.seq), PAGE_LEN).await?;
        let more = page.len() == PAGE_LEN;
        rows.extend(page);
        if !more {
            return Ok(Some(Read { record, rows, is_owned }));
        }
    }
}
