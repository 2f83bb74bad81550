//! Waiting for an event, and sleeping.

use std::marker::PhantomData;
use std::sync::Arc;

use super::effect::{Effect, Note, Waiting};
use super::event::{StepEvent, StepHappened, Timer};
use super::flow::{Applied, Flow, Refused, RejectReason};
use super::fx::Fx;
use super::part::{Open, Part};
use super::undo::Undo;
use super::{Failure, Path, Time, Value, json};

/// A `wait` for an event of the type `E`.
#[derive(Debug)]
pub struct Wait<E> {
    path: Path,
    event: &'static str,
    /// What the event's correlating field must equal; `None`: any event of the name.
    value: Option<String>,
    due: Option<Time>,
    what: PhantomData<fn() -> E>,
}

impl<E: Value> Wait<E> {
    /// Subscribes. A correlation value that could not be computed is the step's failure.
    pub fn start<U: Undo>(
        node: u16,
        event: &'static str,
        value: Result<Option<String>, Failure>,
        timeout_ms: Option<u64>,
        fx: &mut Fx<'_, U>,
    ) -> Flow<Self, Arc<E>> {
        let path = fx.path(node);
        let value = match value {
            Ok(value) => value,
            Err(failure) => {
                fx.out.notes.push(Note::StepFailed { path, failure: failure.clone() });
                return Flow::Failed(failure);
            }
        };
        let due = timeout_ms.map(|ms| fx.now.plus_ms(ms));
        fx.out.all.push(Effect::Subscribe { path, event, value: value.clone() });
        fx.waiting(path, Waiting::Event { name: event, value: value.clone() });
        Flow::Stay(Self { path, event, value, due, what: PhantomData })
    }

    /// Offers an event; done with the event that came.
    pub fn apply<U: Undo>(self, event: &StepEvent, fx: &mut Fx<'_, U>) -> Applied<Self, Arc<E>> {
        self.apply_if(event, fx, |_, _| Ok(true))
    }

    /// As [`Self::apply`]; `condition`: the rest of `where`.
    pub fn apply_if<U: Undo>(
        self,
        event: &StepEvent,
        fx: &mut Fx<'_, U>,
        condition: impl FnOnce(&E, &mut Fx<'_, U>) -> Result<bool, Failure>,
    ) -> Applied<Self, Arc<E>> {
        if event.path != self.path {
            return Err(Refused(self, RejectReason::NotOpen));
        }
        let outcome = match &event.what {
            StepHappened::Received { data: received, .. } => match json::decode::<E>(received) {
                Err(text) => return Err(Refused(self, RejectReason::Invalid(text))),
                Ok(data) => match condition(&data, fx) {
                    Ok(true) => {
                        fx.keep(&self.path, received);
                        Flow::Done(Arc::new(data))
                    }
                    Ok(false) => return Err(Refused(self, RejectReason::NoMatch)),
                    Err(failure) => Flow::Failed(failure),
                },
            },
            // Also without one: timeouts may change under a running instance, and its journal must
            // go on to mean the same.
            StepHappened::TimerFired { timer: Timer::Timeout } => Flow::Failed(Failure::new(
                Failure::TIMEOUT,
                format!("no event {} came in time", self.event),
            )),
            _ => return Err(Refused(self, RejectReason::NotOpen)),
        };
        fx.out.all.push(Effect::Unsubscribe {
            path: self.path,
            event: self.event,
            value: self.value,
        });
        fx.out.notes.push(match &outcome {
            Flow::Failed(failure) => Note::StepFailed { path: self.path, failure: failure.clone() },
            // Said apart from the event: one that came while nothing might move is taken later, or
            // never.
            _ => Note::StepCompleted { path: self.path },
        });
        Ok(outcome)
    }
}

impl<E> Part for Wait<E> {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        visit(Open::Wait {
            path: self.path,
            event: self.event,
            value: self.value.as_deref(),
            due: self.due,
        });
    }
}

/// A `sleep`.
#[derive(Debug)]
pub struct Sleep {
    path: Path,
    until: Time,
}

impl Sleep {
    /// In the past: done immediately.
    pub fn start<U: Undo>(
        node: u16,
        until: Result<Time, Failure>,
        fx: &mut Fx<'_, U>,
    ) -> Flow<Self, ()> {
        let path = fx.path(node);
        match until {
            Err(failure) => {
                fx.out.notes.push(Note::StepFailed { path, failure: failure.clone() });
                Flow::Failed(failure)
            }
            Ok(until) if until <= fx.now => {
                fx.completed(node);
                Flow::Done(())
            }
            Ok(until) => {
                fx.waiting(path, Waiting::Until(until));
                Flow::Stay(Self { path, until })
            }
        }
    }

    pub fn apply<U: Undo>(self, event: &StepEvent, fx: &mut Fx<'_, U>) -> Applied<Self, ()> {
        if event.path == self.path
            && matches!(event.what, StepHappened::TimerFired { timer: Timer::Sleep })
        {
            fx.out.notes.push(Note::StepCompleted { path: self.path });
            Ok(Flow::Done(()))
        } else {
            Err(Refused(self, RejectReason::NotOpen))
        }
    }
}

impl Part for Sleep {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        visit(Open::Timer { path: self.path, timer: Timer::Sleep, due: self.until });
    }
}
