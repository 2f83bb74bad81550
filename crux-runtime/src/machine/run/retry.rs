//! The command `retry`: failed steps are dispatched again, unchanged or with a corrected input.

use serde_json::value::RawValue;

use super::super::effect::{Effects, Note};
use super::super::event::{StepEvent, StepHappened};
use super::super::flow::RejectReason;
use super::super::part::{Open, Part};
use super::super::{Path, Time};
use super::{Life, Machine, Run};

impl<M: Machine> Run<M> {
    pub(super) fn retry(
        &mut self,
        step: Option<Path>,
        input: Option<&RawValue>,
        now: Time,
        out: &mut Effects,
    ) -> Result<(), RejectReason> {
        if self.paused {
            return Err(RejectReason::InvalidState("the instance is paused: resume it first"));
        }
        if let Life::Parked { undoing: Some((_, task)), .. } = &self.life {
            return self.retry_undo(task.path, step, input, now, out);
        }
        match &self.life {
            Life::Parked { .. } | Life::Failed { .. } => {}
            Life::Running if !self.exhausted.is_empty() => {}
            _ => {
                return Err(RejectReason::InvalidState(
                    "only a parked or failed instance can be retried",
                ));
            }
        }
        let again: Vec<Path> = self
            .exhausted
            .iter()
            .map(|waiting| waiting.path)
            .filter(|path| step.is_none_or(|step| step == *path))
            .collect();
        if step.is_none() && input.is_none() && self.is_held_up() && again.is_empty() {
            out.notes.push(Note::Resumed);
            self.thaw(now, out);
            return Ok(());
        }
        if self.state.is_none() || again.is_empty() {
            return Err(match step {
                Some(_) => RejectReason::InvalidState("that step does not wait for a retry"),
                None => RejectReason::InvalidState("nothing is left to retry from: use restart"),
            });
        }
        if input.is_some() && again.len() > 1 {
            return Err(RejectReason::InvalidState(
                "several steps have failed: name the one that the input is for",
            ));
        }
        let events: Vec<StepEvent> = again
            .iter()
            .map(|path| StepEvent {
                path: *path,
                what: StepHappened::Retry { input: input.map(ToOwned::to_owned) },
            })
            .collect();
        self.check_retry(&events)?;
        self.exhausted.retain(|waiting| !again.contains(&waiting.path));
        self.life = Life::Running;
        out.notes.push(Note::Resumed);
        if let Some(failure) = self.parked_by() {
            out.notes.push(Note::Parked { failure: failure.clone() });
        }
        for event in &events {
            self.advance(event, now, out)?;
        }
        if matches!(self.life, Life::Running) {
            self.thaw(now, out);
        }
        Ok(())
    }

    /// Parked by the engine, and not because a step waits for a person: it can go on from where it
    /// was.
    fn is_held_up(&self) -> bool {
        matches!(self.life, Life::Parked { undoing: None, .. }) && self.state.is_some()
    }

    /// All of them or none.
    pub(super) fn check_retry(&self, events: &[StepEvent]) -> Result<(), RejectReason> {
        let mut answer = Ok(());
        if let Some(state) = &self.state {
            state.open(&mut |open| {
                if let Open::Task(task) = open
                    && let Some(event) = events.iter().find(|event| event.path == task.path)
                    && let Some(meta) = M::DEFINITION.task(task.path.node)
                    && let Err(why) = task.accepts(&event.what, meta)
                {
                    answer = Err(why);
                }
            });
        }
        answer
    }

    pub(super) fn retry_undo(
        &mut self,
        path: Path,
        step: Option<Path>,
        input: Option<&RawValue>,
        now: Time,
        out: &mut Effects,
    ) -> Result<(), RejectReason> {
        if step.is_some_and(|step| step != path) {
            return Err(RejectReason::InvalidState("that step does not wait for a retry"));
        }
        let event = StepHappened::Retry { input: input.map(ToOwned::to_owned) };
        let meta = M::DEFINITION.task(path.node).ok_or(RejectReason::NotOpen)?;
        let Life::Parked { failure, undoing: Some((cause, mut task)) } =
            std::mem::replace(&mut self.life, Life::Running)
        else {
            return Err(RejectReason::NotOpen);
        };
        if let Err(why) = task.accepts(&event, meta) {
            self.life = Life::Parked { failure, undoing: Some((cause, task)) };
            return Err(why);
        }
        let mut exhausted = Vec::new();
        let (_, mut fx) = self.fx(now, out, &mut exhausted);
        let _sent = task.apply(&event, &mut fx);
        out.notes.push(Note::Undoing);
        self.life = Life::Undoing { cause, failure, task };
        Ok(())
    }
}
