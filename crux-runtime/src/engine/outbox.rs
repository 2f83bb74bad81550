//! The outbox of one instance: the effects of its rows that are not confirmed yet. An
//! instance whose outbox is not empty is *unsettled*. For example: a row dispatches `charge`, and
//! the outbox has its task until the service has taken it; if the service is down, the task waits
//! here, with the reason and the time of the next try.

use smallvec::SmallVec;

use crate::backoff;
use crate::machine::{Path, Time};
use crate::store::Seq;

/// A task that the bus has taken is not offered to it again before it has answered; nor is it
/// forgotten if it never does.
const ANSWER_MS_MAX: u64 = 24 * 3600 * 1000;

/// An effect: its row and its number in that row. After a crash it has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EffectId {
    pub(super) seq: Seq,
    pub(super) n: u32,
}

/// An effect that is not confirmed.
#[derive(Debug)]
pub(super) struct PendingEffect {
    id: EffectId,
    pub(super) what: Pending,
}

#[derive(Debug)]
pub(super) enum Pending {
    /// A task that runs in this process, until its outcome is appended; or that is on its way to a
    /// service or worker, until that has it.
    Task { path: Path, attempt: u32, backoff: Option<DeliveryBackoff> },
    /// A hook or an emitted event, until it is out; and why it is not, once that was tried.
    Message { routing_key: &'static str, reason: Option<String> },
    /// A wait whose subscription is being stored, and which looks for events that came before it.
    Subscription { path: Path },
}

/// A task that could not be delivered.
#[derive(Debug, Clone)]
pub(super) struct DeliveryBackoff {
    pub(super) reason: String,
    again_at: Time,
    /// The delay that the receiver asked for.
    not_before: Time,
    failed: u32,
    /// It has been offered again, and there is no answer yet.
    is_offered: bool,
}

/// Most instances have one effect pending: it is kept in place.
#[derive(Debug, Default)]
pub(super) struct Outbox(SmallVec<[PendingEffect; 1]>);

impl Outbox {
    pub(super) fn add_task(&mut self, id: EffectId, path: Path, attempt: u32) {
        self.0.push(PendingEffect { id, what: Pending::Task { path, attempt, backoff: None } });
    }

    pub(super) fn add_message(&mut self, id: EffectId, routing_key: &'static str) {
        self.0.push(PendingEffect { id, what: Pending::Message { routing_key, reason: None } });
    }

    pub(super) fn add_subscription(&mut self, id: EffectId, path: Path) {
        self.0.push(PendingEffect { id, what: Pending::Subscription { path } });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, id: EffectId) -> bool {
        self.0.iter().any(|effect| effect.id == id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.0.iter().map(|effect| &effect.what)
    }

    /// Up to which row everything is confirmed; `last` is the last one.
    pub(super) fn settled(&self, last: Seq) -> Seq {
        self.0.iter().map(|effect| effect.id.seq - 1).min().unwrap_or(last)
    }

    /// The effect is done.
    pub(super) fn close(&mut self, id: EffectId) {
        self.0.retain(|effect| effect.id != id);
    }

    /// A service or worker has the task.
    pub(super) fn close_task(&mut self, path: Path, attempt: u32) {
        self.0.retain(|effect| !effect.what.is_task(path, attempt));
    }

    /// The step went on: its tasks need not reach anyone.
    pub(super) fn close_step(&mut self, step: Path) {
        self.0
            .retain(|effect| !matches!(&effect.what, Pending::Task { path, .. } if *path == step));
    }

    /// Whether a task is on its way to who works on it, runs in this process, or waits for the next
    /// one.
    pub(super) fn has_task(&self, path: Path, attempt: u32) -> bool {
        self.0.iter().any(|effect| effect.what.is_task(path, attempt))
    }

    /// Whether a wait still looks for events that came before it.
    pub(super) fn is_subscribing(&self, wait: &Path) -> bool {
        let this = |what: &Pending| matches!(what, Pending::Subscription { path } if path == wait);
        self.0.iter().any(|effect| this(&effect.what))
    }

    /// Tasks that were dispatched and not accepted.
    pub(super) fn undelivered_tasks(&self) -> impl Iterator<Item = (Path, u32)> {
        self.0.iter().filter_map(|effect| match &effect.what {
            Pending::Task { path, attempt, backoff: Some(backoff) } if !backoff.is_offered => {
                Some((*path, *attempt))
            }
            _ => None,
        })
    }

    /// The attempt of a step whose task nobody has: it waits to be offered again.
    pub(super) fn undelivered_attempt(&self, path: Path) -> Option<u32> {
        self.undelivered_tasks().find(|(of, _)| *of == path).map(|(_, attempt)| attempt)
    }

    /// A task was not accepted; it is retried after a pause, and not before `after_ms`.
    pub(super) fn task_undelivered(
        &mut self,
        task: (Path, u32),
        reason: &str,
        after_ms: Option<u64>,
        seed: u64,
        now: Time,
    ) {
        for effect in &mut self.0 {
            let Pending::Task { path, attempt, backoff } = &mut effect.what else { continue };
            if (*path, *attempt) != task {
                continue;
            }
            let failed = backoff.as_ref().map_or(0, |backoff| backoff.failed.saturating_add(1));
            let pause = backoff::DELIVERY.after(failed, seed).as_millis();
            let not_before = now.plus_ms(after_ms.unwrap_or_default());
            *backoff = Some(DeliveryBackoff {
                reason: reason.to_owned(),
                again_at: now.plus_ms(u64::try_from(pause).unwrap_or(u64::MAX)).max(not_before),
                not_before,
                failed,
                is_offered: false,
            });
        }
    }

    /// Why a message is not out.
    pub(super) fn message_undelivered(&mut self, id: EffectId, why: String) {
        let this = self.0.iter_mut().find(|effect| effect.id == id);
        if let Some(Pending::Message { reason, .. }) = this.map(|effect| &mut effect.what) {
            *reason = Some(why);
        }
    }

    /// When a task has to be offered again.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.0.iter().filter_map(|effect| effect.what.backoff()).map(|task| task.again_at).min()
    }

    /// Tasks whose pause is over.
    pub(super) fn due(&self, now: Time) -> impl Iterator<Item = (EffectId, Path, u32)> {
        self.0.iter().filter_map(move |effect| match &effect.what {
            Pending::Task { path, attempt, backoff: Some(task) } if task.again_at <= now => {
                Some((effect.id, *path, *attempt))
            }
            _ => None,
        })
    }

    /// A task is being offered again: not once more before there is an answer. It keeps its count of
    /// tries.
    pub(super) fn offered(&mut self, id: EffectId, now: Time) {
        let this = self.0.iter_mut().find(|effect| effect.id == id);
        if let Some(backoff) = this.and_then(|effect| effect.what.backoff_mut()) {
            backoff.again_at = now.plus_ms(ANSWER_MS_MAX);
            backoff.is_offered = true;
        }
    }

    /// A service is back: no task has to wait for its pause, unless it was asked to. Whether there
    /// is one.
    pub(super) fn end_pauses(&mut self, now: Time) -> bool {
        let mut any = false;
        for task in self.0.iter_mut().filter_map(|effect| effect.what.backoff_mut()) {
            if !task.is_offered {
                task.again_at = task.again_at.min(task.not_before.max(now));
                any = true;
            }
        }
        any
    }
}

impl Pending {
    fn is_task(&self, path: Path, attempt: u32) -> bool {
        matches!(self, Self::Task { path: of, attempt: n, .. } if (*of, *n) == (path, attempt))
    }

    fn backoff(&self) -> Option<&DeliveryBackoff> {
        match self {
            Self::Task { backoff, .. } => backoff.as_ref(),
            Self::Message { .. } | Self::Subscription { .. } => None,
        }
    }

    fn backoff_mut(&mut self) -> Option<&mut DeliveryBackoff> {
        match self {
            Self::Task { backoff, .. } => backoff.as_mut(),
            Self::Message { .. } | Self::Subscription { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: EffectId = EffectId { seq: 3, n: 0 };
    const HOOK: EffectId = EffectId { seq: 5, n: 1 };

    fn charge() -> Path {
        Path::new(1)
    }

    fn outbox() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.add_task(TASK, charge(), 1);
        outbox.add_message(HOOK, "order.started");
        outbox
    }

    fn due(outbox: &Outbox, now: Time) -> Vec<EffectId> {
        outbox.due(now).map(|(id, ..)| id).collect()
    }

    #[test]
    fn rows_are_settled_up_to_the_first_effect_that_is_not_confirmed() {
        let mut outbox = outbox();
        assert_eq!(outbox.settled(7), 2);
        outbox.close_task(charge(), 2);
        assert_eq!(outbox.settled(7), 2, "of another attempt");
        outbox.close_task(charge(), 1);
        assert_eq!(outbox.settled(7), 4);
        outbox.close(HOOK);
        assert_eq!(outbox.settled(7), 7);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_task_that_reaches_nobody_is_due_again_later_each_time() {
        let mut outbox = outbox();
        assert_eq!(outbox.next_due(), None);
        let mut last = 0;
        for failed in 0..4 {
            let now = Time(1_000_000 * (failed + 1));
            outbox.task_undelivered((charge(), 1), "down", None, 1, now);
            assert_eq!(outbox.undelivered_tasks().count(), 1);
            let again_at = outbox.next_due().unwrap();
            let pause = again_at.0 - now.0;
            assert!(pause > last, "{pause} after {last}");
            last = pause;
            assert!(due(&outbox, Time(again_at.0 - 1)).is_empty());
            assert_eq!(due(&outbox, again_at), [TASK]);
            outbox.offered(TASK, again_at);
            assert!(due(&outbox, Time(again_at.0 + 3_600_000)).is_empty(), "it has no answer yet");
            assert_eq!(outbox.undelivered_tasks().count(), 0);
        }
    }

    #[test]
    fn a_service_that_is_back_gets_its_tasks_unless_it_asked_for_time() {
        let mut outbox = outbox();
        assert!(!outbox.end_pauses(Time(1)), "nothing was turned away");
        outbox.task_undelivered((charge(), 1), "down", None, 1, Time(1_000));
        assert!(outbox.end_pauses(Time(1_010)));
        assert_eq!(due(&outbox, Time(1_010)), [TASK]);
        outbox.task_undelivered((charge(), 1), "busy", Some(90_000), 1, Time(2_000));
        assert!(outbox.end_pauses(Time(2_010)));
        assert!(due(&outbox, Time(91_999)).is_empty());
        assert_eq!(due(&outbox, Time(92_000)), [TASK]);
    }

    #[test]
    fn a_message_says_why_it_is_not_out() {
        let mut outbox = outbox();
        outbox.message_undelivered(HOOK, "no route".to_owned());
        outbox.message_undelivered(TASK, "not a message".to_owned());
        let reasons = outbox.iter().filter_map(|what| match what {
            Pending::Message { reason, .. } => reason.as_deref(),
            _ => None,
        });
        assert_eq!(reasons.collect::<Vec<_>>(), ["no route"]);
        assert_eq!(outbox.next_due(), None, "messages are offered by their own task");
        outbox.close_step(charge());
        assert!(!outbox.contains(TASK) && outbox.contains(HOOK));
    }
}
