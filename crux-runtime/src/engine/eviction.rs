//! Instances of which nothing is under way: their marks are cleared, they leave memory when others
//! need the place, and come back when they are due.

use std::cmp::Reverse;
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
    /// Nothing is under way: clear the mark, set the timer, and leave memory if the instance has
    /// ended or others need the place.
    pub(super) fn rest(&mut self, id: InstanceId, now: Time) {
        let Some(Slot::Ready(active)) = self.slots.get_mut(&id) else { return };
        if active.appending.is_some() {
            return;
        }
        let due = active.next_due(now, &self.core);
        if active.is_idle() {
            // Signs of life put a time-out off: the store must not name it as due over and over.
            let is_put_off = active.wake_told.is_some_and(|told| told <= now)
                && due.is_some_and(|due| due > now);
            if active.settled_told < active.seq || is_put_off {
                active.settled_told = active.seq;
                active.wake_told = due;
                self.marks.settle(Settled { instance: id, seq: active.seq, wake_at: due });
            }
            active.count(false, &self.core.stats);
            if active.status.is_some_and(Status::is_ended) {
                return self.forget(id);
            }
            if active.listed == 0 {
                self.listings += 1;
                active.listed = self.listings;
                self.idle.push_back((id, active.listed));
            }
        }
        if let Some(due) = due
            && active.timer.is_none_or(|timer| due < timer)
            // Whatever is settled and due later is found by its `wake_at`: a million sleepers cost
            // no memory.
            && (due <= now.plus_ms(self.core.horizon_ms()) || !active.is_idle())
        {
            active.timer = Some(due);
            self.timers.push(Reverse((due, id)));
        }
        self.evict();
    }

    /// The store says that an instance is due then.
    pub(super) fn remember_timer(&mut self, id: InstanceId, due: Time) {
        let timer = match self.slots.get_mut(&id) {
            Some(Slot::Ready(active)) => &mut active.timer,
            // What is loaded is looked at.
            Some(Slot::Loading(_)) => return,
            None => {
                if self.away.get(&id).is_none_or(|timer| due < *timer) {
                    self.away.insert(id, due);
                    self.timers.push(Reverse((due, id)));
                }
                return;
            }
        };
        if timer.is_none_or(|timer| due < timer) {
            *timer = Some(due);
            self.timers.push(Reverse((due, id)));
        }
    }

    /// Keeps the number of idle instances within its limit; whoever leaves is woken by the store's
    /// `wake_at`, or by what comes for it.
    fn evict(&mut self) {
        let limit = (self.core.options.cached_instances / self.core.shards()).max(1);
        while self.idle.len() > limit {
            let Some((id, listing)) = self.idle.pop_front() else { break };
            if let Some(Slot::Ready(active)) = self.slots.get_mut(&id)
                && active.listed == listing
            {
                active.listed = 0;
                if active.is_idle() {
                    self.forget(id);
                }
            }
        }
    }

    pub(super) fn forget(&mut self, id: InstanceId) {
        if let Some(Slot::Ready(mut active)) = self.slots.remove(&id) {
            active.count(false, &self.core.stats);
            self.core.stats.cached.fetch_sub(1, Ordering::Relaxed);
            for (_, reply) in active.later.drain(..) {
                answer(reply, Err(Error::Moved));
            }
            if let Some(timer) = active.timer
                && !active.status.is_some_and(Status::is_ended)
            {
                self.away.insert(id, timer);
            }
        }
    }

    pub(super) fn fire_timers(&mut self, now: Time) {
        while let Some(Reverse((due, id))) = self.timers.peek().copied()
            && due <= now
        {
            self.timers.pop();
            match self.slots.get_mut(&id) {
                Some(Slot::Ready(active)) if active.timer == Some(due) => {
                    active.timer = None;
                    // Attempts under way still run out of time.
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
                None if self.away.get(&id) == Some(&due) => _ = self.away.remove(&id),
                // What is loaded is looked at; if it cannot be, the store names it again.
                Some(Slot::Loading(_)) => {
                    self.away.remove(&id);
                    continue;
                }
                _ => continue,
            }
            self.input(id, Input::Wake { done: None }, now);
        }
    }

    /// See [`Message::ForgetIdle`].
    pub(super) fn forget_idle(&mut self, id: InstanceId, reply: oneshot::Sender<bool>) {
        let may_differ = match self.slots.get(&id) {
            Some(Slot::Ready(active)) if active.is_idle() => {
                self.forget(id);
                true
            }
            // With work under way its mark is this node's, and nobody else can have changed it; but
            // for an append that is not answered yet.
            Some(Slot::Ready(active)) => active.appending.is_some(),
            // Somebody else who asks has had it forgotten: whoever asks now hears what is stored.
            Some(Slot::Loading(_)) | None => true,
        };
        // Whoever asked may have gone away.
        let _ = reply.send(may_differ);
    }
}
