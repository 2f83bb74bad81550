//! Ending an instance that cannot complete: stop open steps, undo completed ones, then end; or
//! park, and leave the decision to a person.

use super::super::definition::OnExhausted;
use super::super::effect::{Effect, Effects, Ended, Hook, Note};
use super::super::event::{Cause, StepEvent};
use super::super::flow::RejectReason;
use super::super::instance::Instance;
use super::super::part::{Open, Part};
use super::super::task::{Attempt, TaskFlow, TaskState};
use super::super::undo::Undo;
use super::super::{Failure, Path, Time};
use super::{Life, Machine, Run, is_held};

impl<M: Machine> Run<M> {
    /// The forward part has failed and nothing took it.
    pub(super) fn fail(&mut self, failure: Failure, now: Time, out: &mut Effects) {
        match M::DEFINITION.on_exhausted {
            OnExhausted::Park => self.park(failure, None, out),
            OnExhausted::Undo => self.stop(Cause::Failed, failure, now, out),
        }
    }

    pub(super) fn park(
        &mut self,
        failure: Failure,
        undoing: Option<(Cause, Box<TaskState>)>,
        out: &mut Effects,
    ) {
        out.notes.push(Note::Parked { failure: failure.clone() });
        self.life = Life::Parked { failure, undoing };
    }

    /// From now on nothing new starts; when what is running has ended, undo, then end.
    pub(super) fn stop(&mut self, cause: Cause, failure: Failure, now: Time, out: &mut Effects) {
        self.give_up_open(out);
        out.notes.push(Note::Stopping { failure: failure.clone() });
        self.life = Life::Stopping { cause, failure };
        self.paused = false;
        self.stop_further(now, out);
    }

    /// Nobody waits any more for what is open.
    pub(super) fn give_up_open(&self, out: &mut Effects) {
        if let Some(state) = &self.state {
            state.open(&mut |open| match open {
                Open::Task(task)
                    if task.attempt == Attempt::Sent && !is_held(&self.held, &task.path) =>
                {
                    out.all.push(Effect::Cancel { path: task.path });
                }
                Open::Wait { path, event, value, .. } => {
                    out.all.push(Effect::Unsubscribe {
                        path,
                        event,
                        value: value.map(str::to_owned),
                    });
                }
                Open::Task(_) | Open::Timer { .. } => {}
            });
        }
    }

    /// Continues with undo when no attempt is running any more.
    pub(super) fn stop_further(&mut self, now: Time, out: &mut Effects) {
        let mut is_running = false;
        self.open(&mut |open| is_running |= matches!(open, Open::Task(_)));
        if is_running {
            return;
        }
        if let Life::Stopping { cause, failure } = std::mem::replace(&mut self.life, Life::Running)
        {
            self.undo.settle();
            if !self.undo.is_empty() {
                // From here there is no way back into the forward part.
                self.state = None;
                self.held.clear();
                out.notes.push(Note::Undoing);
            }
            self.undo_next(cause, failure, now, out);
        }
    }

    pub(super) fn undo_next(
        &mut self,
        cause: Cause,
        failure: Failure,
        now: Time,
        out: &mut Effects,
    ) {
        let Some(entry) = self.undo.newest() else { return self.end(cause, failure, out) };
        let (node, input) = entry.value.input(&self.env, now);
        let path = Path { node, at: entry.path.at };
        let mut exhausted = Vec::new();
        let (_, mut fx) = self.fx(now, out, &mut exhausted);
        match input {
            Ok(input) => {
                let task = TaskState::start(path, input, None, &mut fx);
                self.life = Life::Undoing { cause, failure, task: Box::new(task) };
            }
            Err(cannot) => {
                let task = TaskState::stillborn(path, cannot.clone(), &mut fx);
                self.park(cannot, Some((cause, Box::new(task))), out);
            }
        }
    }

    pub(super) fn end(&mut self, cause: Cause, failure: Failure, out: &mut Effects) {
        if let Some(routing_key) = M::DEFINITION.hooks.on_failure {
            out.all.push(Effect::Hook { kind: Hook::Failure, routing_key });
        }
        self.life = match cause {
            Cause::Failed | Cause::Deadline => {
                out.notes.push(Note::Ended(Ended::Failed { failure: failure.clone() }));
                Life::Failed { failure }
            }
            Cause::Cancelled => {
                out.notes.push(Note::Ended(Ended::Cancelled { failure: failure.clone() }));
                Life::Cancelled { failure }
            }
        };
    }

    /// An event for the running undo.
    pub(super) fn step_undo(
        &mut self,
        event: &StepEvent,
        now: Time,
        out: &mut Effects,
    ) -> Result<(), RejectReason> {
        let meta = M::DEFINITION.task(event.path.node).ok_or(RejectReason::NotOpen)?;
        let Life::Undoing { cause, failure, mut task } =
            std::mem::replace(&mut self.life, Life::Running)
        else {
            return Err(RejectReason::NotOpen);
        };
        if let Err(why) = task.accepts(&event.what, meta) {
            self.life = Life::Undoing { cause, failure, task };
            return Err(why);
        }
        let mut exhausted = Vec::new();
        let (_, mut fx) = self.fx(now, out, &mut exhausted);
        match task.apply(&event.what, &mut fx) {
            TaskFlow::Completed => {
                self.undo.pop();
                self.undo_next(cause, failure, now, out);
            }
            _ => match exhausted.pop() {
                Some(exhausted) => self.park(exhausted.failure, Some((cause, task)), out),
                None => self.life = Life::Undoing { cause, failure, task },
            },
        }
        Ok(())
    }

    pub(super) fn request_stop(
        &mut self,
        cause: Cause,
        reason: &str,
        now: Time,
        out: &mut Effects,
    ) -> Result<(), RejectReason> {
        let name = if cause == Cause::Deadline { Failure::TIMEOUT } else { Failure::CANCELLED };
        match &self.life {
            Life::Running | Life::Parked { undoing: None, .. } => {
                self.stop(cause, Failure::new(name, reason), now, out);
                Ok(())
            }
            Life::Stopping { .. } | Life::Undoing { .. } => {
                Err(RejectReason::InvalidState("the instance is already stopping"))
            }
            Life::Parked { .. } => Err(RejectReason::InvalidState(
                "an undo has failed: retry it, or fail the instance",
            )),
            Life::Completed | Life::Failed { .. } | Life::Cancelled { .. } => {
                Err(RejectReason::InvalidState("the instance has ended"))
            }
        }
    }
}
