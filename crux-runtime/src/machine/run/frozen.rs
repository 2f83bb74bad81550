//! Events that arrive while an instance is frozen, and how it continues.

use super::super::effect::Effects;
use super::super::event::{Outcome, StepEvent, StepHappened};
use super::super::flow::{Flow, Refused, RejectReason};
use super::super::part::{Open, Part};
use super::super::{Definition, Failure, Path, Time};
use super::{Life, Machine, Run, is_held};

impl<M: Machine> Run<M> {
    /// Records what arrives while nothing may move.
    pub(super) fn hold(
        &mut self,
        event: &StepEvent,
        now: Time,
        out: &mut Effects,
    ) -> Result<(), RejectReason> {
        let stopping = matches!(self.life, Life::Stopping { .. });
        let mut answer = Err(RejectReason::NotOpen);
        if let Some(state) = &self.state {
            state.open(&mut |open| match open {
                Open::Task(task)
                    if task.path == event.path && !is_held(&self.held, &event.path) =>
                {
                    answer = match (&event.what, M::DEFINITION.task(event.path.node)) {
                        (StepHappened::TimerFired { .. } | StepHappened::Retry { .. }, _)
                        | (_, None) => Err(RejectReason::NotOpen),
                        (what, Some(meta)) => task.accepts(what, meta),
                    };
                }
                // Whether it fulfils the wait's condition is seen when the instance goes on; so
                // several may be held for one wait.
                Open::Wait { path, .. }
                    if path == event.path
                        && !stopping
                        && matches!(event.what, StepHappened::Received { .. }) =>
                {
                    answer = Ok(());
                }
                _ => {}
            });
        }
        answer?;
        match &event.what {
            StepHappened::Started { .. } => {
                // Only moves the task's timeouts; nothing can come of it.
                return self.advance_quietly(event, now, out);
            }
            // It waits for a person, like the one for which the instance was parked, and can be
            // retried like that one.
            StepHappened::Failed { next: None, failure, .. }
                if self.is_parked() && !is_caught(M::DEFINITION, &event.path, failure) =>
            {
                return self.advance_quietly(event, now, out);
            }
            StepHappened::Completed { result, .. } => self.undo.completed(&event.path, result),
            StepHappened::Failed { outcome: Outcome::Unknown, .. } | StepHappened::Lost { .. } => {
                self.undo.unknown(&event.path)
            }
            _ => {}
        }
        self.held.push(event.clone());
        match &self.life {
            Life::Stopping { .. } => self.stop_further(now, out),
            // A person, or a late worker, gave the result of a step that waited for one: it need
            // not be retried.
            Life::Parked { undoing: None, .. }
                if matches!(event.what, StepHappened::Completed { .. }) =>
            {
                self.exhausted.retain(|waiting| waiting.path != event.path);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn advance_quietly(
        &mut self,
        event: &StepEvent,
        now: Time,
        out: &mut Effects,
    ) -> Result<(), RejectReason> {
        let mut exhausted = Vec::new();
        let (slot, mut fx) = self.fx(now, out, &mut exhausted);
        let Some(state) = slot.take() else { return Err(RejectReason::NotOpen) };
        let (state, answer) = match M::apply(state, event, &mut fx) {
            Ok(Flow::Stay(state)) => (Some(state), Ok(())),
            Ok(Flow::Done(_) | Flow::Failed(_)) => (None, Ok(())),
            Err(Refused(state, why)) => (Some(state), Err(why)),
        };
        *slot = state;
        self.exhausted.extend(exhausted);
        answer
    }

    fn is_parked(&self) -> bool {
        matches!(self.life, Life::Parked { undoing: None, .. })
    }

    /// Runs on: what was held while frozen is applied now.
    pub(super) fn thaw(&mut self, now: Time, out: &mut Effects) {
        self.life = Life::Running;
        let mut held = std::mem::take(&mut self.held).into_iter();
        while let Some(event) = held.next() {
            if self.is_frozen() {
                // One of them failed the instance again; the rest stays held.
                self.held.push(event);
                self.held.extend(held);
                return;
            }
            // Held events were accepted; one that an earlier one has made void (its group was
            // stopped) is passed over.
            let is_void = self.advance(&event, now, out).is_err();
            if is_void && let StepHappened::Received { event_id, .. } = event.what {
                // The wait has not taken it after all: its next round may.
                self.received.remove(&(M::DEFINITION.across_rounds(&event.path), event_id));
            }
        }
    }
}

/// Whether some `catch` takes the failure; the same question as when an attempt's failure is
/// applied.
fn is_caught(definition: &Definition, path: &Path, failure: &Failure) -> bool {
    definition.node(path.node).is_some_and(|node| node.caught.takes(&failure.name))
}
