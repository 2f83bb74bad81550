//! Idle instances: their unsettled flags are cleared, the least recently used leave memory when the
//! cache is full, and they are reloaded when they are due.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use crate::engine::active_instance::Input;
use crate::engine::api::Error;
use crate::engine::message::answer;
use crate::engine::shard::{Shard, Slot};
use crate::id::InstanceId;
use crate::machine::{Time, Timer};
use crate::store::{Settled, Status};

impl Shard {
    /// If the instance is idle: clears its unsettled flag, sets its timer, and unloads it if it has
    /// ended or the cache is full.
    pub(super) fn settle_or_evict(&mut self, id: InstanceId, now: Time) {
        let Some(Slot::Ready(active)) = self.slots.get_mut(&id) else { return };
        if active.appending.is_some() {
            return;
        }
        let due = active.next_due(now, &self.core);
        if active.is_idle() {
            // Heartbeats postpone a timeout: without an update the store would name it as due over
            // and over.
            let is_put_off = active.wake_stored.is_some_and(|wake_at| wake_at <= now)
                && due.is_some_and(|due| due > now);
            if active.settled_stored < active.seq || is_put_off {
                active.settled_stored = active.seq;
                active.wake_stored = due;
                self.settlement.settle(Settled { instance: id, seq: active.seq, wake_at: due });
            }
            active.count(false, &self.core.stats);
            if active.status.is_some_and(Status::is_ended) {
                return self.unload(id);
            }
            active.idle_ticket.get_or_insert_with(|| self.idle.push(id));
        }
        if let Some(due) = due
            && active.timer.is_none_or(|timer| due < timer)
            // Whatever is settled and due later is found by its `wake_at`: a million sleepers cost
            // no memory.
            && (due <= now.plus_ms(self.core.timer_lookahead_ms()) || !active.is_idle())
        {
            active.timer = Some(due);
            self.timers.set(id, due);
        }
        self.evict_excess();
    }

    /// Sets a timer that the store named; the instance need not be in memory.
    pub(super) fn schedule_timer(&mut self, id: InstanceId, due: Time) {
        let timer = match self.slots.get_mut(&id) {
            Some(Slot::Ready(active)) => &mut active.timer,
            // A loaded instance is checked.
            Some(Slot::Loading(_)) => return,
            None => {
                return self.timers.set_evicted(id, due);
            }
        };
        if timer.is_none_or(|timer| due < timer) {
            *timer = Some(due);
            self.timers.set(id, due);
        }
    }

    /// Evicts idle instances beyond the cache limit; they are reloaded by their `wake_at` timer or
    /// by the next input.
    fn evict_excess(&mut self) {
        let limit = (self.core.options.cached_instances / self.core.shards()).max(1);
        while let Some((id, ticket)) = self.idle.pop_beyond(limit) {
            if let Some(Slot::Ready(active)) = self.slots.get_mut(&id)
                && active.idle_ticket == Some(ticket)
            {
                active.idle_ticket = None;
                if active.is_idle() {
                    self.unload(id);
                }
            }
        }
    }

    pub(super) fn unload(&mut self, id: InstanceId) {
        if let Some(Slot::Ready(mut active)) = self.slots.remove(&id) {
            active.count(false, &self.core.stats);
            self.core.stats.cached.fetch_sub(1, Ordering::Relaxed);
            for (_, reply) in active.deferred_events.drain(..) {
                answer(reply, Err(Error::ConcurrentModification));
            }
            if let Some(timer) = active.timer
                && !active.status.is_some_and(Status::is_ended)
            {
                self.timers.keep_evicted(id, timer);
            }
        }
    }

    pub(super) fn fire_timers(&mut self, now: Time) {
        while let Some((due, id)) = self.timers.pop_due(now) {
            match self.slots.get_mut(&id) {
                Some(Slot::Ready(active)) if active.timer == Some(due) => {
                    active.timer = None;
                    // Running attempts still time out.
                    if self.draining
                        && active
                            .due(now, &self.core)
                            .iter()
                            .all(|(_, _, timer)| *timer == Timer::Retry)
                    {
                        continue;
                    }
                    self.resend(id, now);
                }
                None if self.timers.fire_evicted(id, due) => {}
                // A loaded instance is checked; if loading fails, the store lists it again.
                Some(Slot::Loading(_)) => {
                    self.timers.forget_evicted(id);
                    continue;
                }
                _ => continue,
            }
            self.input(id, Input::Wake { ack: None }, now);
        }
    }

    /// See [`super::message::Message::UnloadIfIdle`].
    pub(super) fn unload_if_idle(&mut self, id: InstanceId, reply: oneshot::Sender<bool>) {
        let may_differ = match self.slots.get(&id) {
            Some(Slot::Ready(active)) if active.is_idle() => {
                self.unload(id);
                true
            }
            // While it is unsettled this node owns it, so no other node can have changed it, except
            // by an append that is not answered yet.
            Some(Slot::Ready(active)) => active.appending.is_some(),
            // Another request had it unloaded: this one reads what is stored.
            Some(Slot::Loading(_)) | None => true,
        };
        // The receiver may have been dropped; ignore.
        let _ = reply.send(may_differ);
    }
}
