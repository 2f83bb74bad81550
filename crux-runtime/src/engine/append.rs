//! Appends: one batch of rows per tick, at most one row of an instance at a time, and how their
//! results are handled.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use smallvec::SmallVec;
use tracing::{debug, error, warn};

use super::api::Error;
use super::instance_log;
use super::message::Message;
use super::shard::{Shard, Slot};
use crate::backoff;
use crate::engine::active_instance::{ActiveInstance, Answer, Appending};
use crate::id::InstanceId;
use crate::machine::{Effects, Event, Time};
use crate::store::{self, Append, Appended, NewInstance, RecordChange, Stored};
use crate::supervise;

impl Shard {
    pub(super) fn append(
        &mut self,
        id: InstanceId,
        mut events: Vec<Event>,
        mut out: Effects,
        answers: Vec<Answer>,
        start: Option<Box<NewInstance>>,
        now: Time,
    ) {
        let Some(Slot::Ready(active)) = self.slots.get_mut(&id) else { return };
        let definition = active.instance.definition();
        crate::journal::row(&mut self.row, definition, now, &events, &out.notes);
        let row = Arc::from(self.row.as_str());
        let log_lines = instance_log::lines_of(&events, &out.notes);
        let effects = out.all.drain(..).collect::<SmallVec<_>>();
        let was_nearly_full = active.journal_size.is_nearly_full(&self.core.options);
        let about = active.journal_size.add(&events, self.row.len(), out.passes, &*active.instance);
        active.journal_size.close(&about, &*active.instance);
        if !was_nearly_full && active.journal_size.is_nearly_full(&self.core.options) {
            let (workflow, full) =
                (definition.workflow, active.journal_size.against(&self.core.options));
            warn!(instance = %id, workflow, "the journal is nearly full: {full}; the instance will be parked at the limit");
        }
        self.scratch = out;
        for event in events.drain(..) {
            self.metrics.count(active.metrics, &event);
            active.close_task(&event);
        }
        self.events = events;
        let status = active.compute_status();
        let changed = (active.status != Some(status)).then_some(status);
        let seq = active.seq + 1;
        // With nothing left to do for this row and the ones before, the append itself clears the
        // unsettled flag.
        let settled = if effects.is_empty() && active.outbox.is_empty() && status.is_ended() {
            seq
        } else {
            active.settled()
        };
        self.tokens = self
            .tokens
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let stored = Stored { seq, settled, row };
        active.appending = Some(Appending {
            stored,
            token: self.tokens,
            at: now,
            start,
            status: changed,
            failed: 0,
            effects,
            answers,
            log_lines,
        });
        self.batch.push(append_of(id, active, definition.retain_ms));
        active.count(true, &self.core.stats);
    }

    /// One batch per round: the store's group grows with the load by itself.
    pub(super) fn send_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let rows = batch.iter().map(|append| (append.instance, append.token)).collect();
        let appending = self.core.store.append(batch);
        let (messages, times, began) =
            (self.messages.clone(), self.core.append_times.clone(), Instant::now());
        supervise::spawn("appending", async move {
            let results = appending.await;
            times.observe(began.elapsed());
            // The shard is dropped only when the process ends.
            let _ = messages.send(Message::Appended { rows, results }).await;
        });
    }

    pub(super) fn appended(
        &mut self,
        id: InstanceId,
        token: u64,
        result: Result<Appended, store::Error>,
        now: Time,
    ) {
        let Some(Slot::Ready(active)) = self.slots.get_mut(&id) else { return };
        // The answer may be to a row of a state that was thrown away since.
        let Some(mut appending) = active.appending.take_if(|appending| appending.token == token)
        else {
            return;
        };
        match result {
            Ok(Appended::Done | Appended::Same) => {
                active.seq = appending.stored.seq;
                active.last_at = appending.at;
                active.settled_stored = active.settled_stored.max(appending.stored.settled);
                if appending.start.is_some() {
                    self.metrics.started(active.metrics);
                }
                if let Some(status) = appending.status {
                    active.status = Some(status);
                    self.core.count_status(status);
                    self.metrics.changed(active.metrics, status);
                }
                if !appending.log_lines.is_empty() {
                    instance_log::write(
                        appending.log_lines,
                        active.instance.definition(),
                        &active.origin,
                    );
                }
                self.tally.transitions += 1;
                self.core.hub.announce(
                    id,
                    &appending.stored,
                    appending.status.is_some_and(store::Status::is_ended),
                );
                for answer in appending.answers {
                    answer(Ok(()));
                }
                self.carry_out(id, appending.stored.seq, appending.effects);
                if let Some(Slot::Ready(active)) = self.slots.get(&id) {
                    if active.queue.is_empty() {
                        self.settle_or_evict(id, now)
                    } else {
                        self.work(id, None, now)
                    }
                }
            }
            Ok(Appended::Used { instance, same_input }) => {
                self.unload(id);
                let result = if same_input {
                    Err(Error::Replayed(instance))
                } else {
                    Err(Error::Conflict(format!(
                        "the request id was used for {instance} with another input"
                    )))
                };
                for answer in appending.answers {
                    answer(result.clone());
                }
            }
            // The state in memory is stale: the inputs are applied again to the stored state.
            Ok(moved @ (Appended::Behind(_) | Appended::OwnedElsewhere { .. })) => {
                debug!(instance = %id, ?moved, "another node appended first; reloading");
                for answer in appending.answers {
                    answer(Err(Error::ConcurrentModification));
                }
                self.reload(id);
            }
            Ok(Appended::Lost { have }) => {
                error!(instance = %id, rows = appending.stored.seq - 1, have, "the store has lost acknowledged rows; reloading the instance");
                self.core.stats.lost.fetch_add(1, Ordering::Relaxed);
                for answer in appending.answers {
                    answer(Err(Error::InvalidState(
                        "the store lost a part of the instance: check its state, then retry"
                            .to_owned(),
                    )));
                }
                self.reload(id);
            }
            // Nothing depends on a start that was not acknowledged: it is refused, not tried again
            // behind the caller's back.
            Err(store::Error::Full(text)) if appending.start.is_some() => {
                self.unload(id);
                for answer in appending.answers {
                    answer(Err(Error::Store(store::Error::Full(text.clone()))));
                }
            }
            Err(error @ (store::Error::Full(_) | store::Error::Unavailable(_))) => {
                let pause = backoff::STORE.after(appending.failed, id.seed());
                appending.failed = appending.failed.saturating_add(1);
                if appending.failed == 1 {
                    warn!(instance = %id, %error, "cannot append to the journal; retrying");
                }
                active.appending = Some(appending);
                let messages = self.messages.clone();
                supervise::spawn("retrying an append", async move {
                    tokio::time::sleep(pause).await;
                    let _ = messages.send(Message::Again(id)).await;
                });
            }
            Err(error) => {
                error!(instance = %id, %error, "the store failed; the instance is reloaded on its next input");
                self.unload(id);
                for answer in appending.answers {
                    answer(Err(Error::Store(error.clone())));
                }
            }
        }
    }

    pub(super) fn append_again(&mut self, id: InstanceId) {
        if let Some(Slot::Ready(active)) = self.slots.get(&id)
            && active.appending.is_some()
        {
            let retain_ms = active.instance.definition().retain_ms;
            self.batch.push(append_of(id, active, retain_ms));
        }
    }
}

fn append_of(id: InstanceId, active: &ActiveInstance, retain_ms: u64) -> Append {
    // Callers have just put it there.
    let Some(appending) = &active.appending else { unreachable!("an append without a row") };
    let record = appending.status.map(|status| RecordChange {
        status,
        ended: status.is_ended().then_some((appending.at, retain_ms)),
    });
    Append {
        instance: id,
        seq: appending.stored.seq,
        token: appending.token,
        row: appending.stored.row.clone(),
        settled: appending.stored.settled,
        start: appending.start.clone(),
        record,
    }
}
