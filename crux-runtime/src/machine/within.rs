//! A composite step around the scope or parts inside it: its time-out, and the stop of everything inside when it fails.

use super::drain::Drain;
use super::effect::Note;
use super::event::{StepEvent, StepHappened, Timer};
use super::flow::{Applied, Flow, Refused, Why};
use super::fx::Fx;
use super::part::{Open, Part};
use super::undo::Undo;
use super::{Failure, Path, Time};

/// A group, parallel, switch, each or repeat with the state `B` inside.
#[derive(Debug)]
pub struct Within<B> {
    path: Path,
    due: Option<Time>,
    body: Body<B>,
}

#[derive(Debug)]
enum Body<B> {
    Open(Box<B>),
    Draining(Drain),
}

impl<B: Part> Within<B> {
    /// Enters the step: `enter` starts what is inside.
    pub fn start<U: Undo, T, I: Into<Inside<B, T>>>(
        node: u16,
        timeout_ms: Option<u64>,
        fx: &mut Fx<'_, U>,
        enter: impl FnOnce(&mut Fx<'_, U>) -> I,
    ) -> Flow<Self, T> {
        let path = fx.path(node);
        let due = timeout_ms.map(|ms| fx.now.plus_ms(ms));
        let inside = enter(fx).into();
        Self::settle(path, due, inside, fx)
    }

    /// Offers an event to what is inside.
    pub fn apply<U: Undo, T, I: Into<Inside<B, T>>>(
        self,
        event: &StepEvent,
        fx: &mut Fx<'_, U>,
        inside: impl FnOnce(B, &mut Fx<'_, U>) -> Result<I, Refused<B>>,
    ) -> Applied<Self, T> {
        let Self { path, due, body } = self;
        match body {
            Body::Draining(drain) => match drain.apply(event, fx) {
                Ok(flow) => Ok(Self::drained(path, due, flow)),
                Err(Refused(drain, why)) => Err(Refused(Self { path, due, body: Body::Draining(drain) }, why)),
            },
            Body::Open(body) if event.path == path && matches!(event.what, StepHappened::TimerFired { timer: Timer::Timeout }) => {
                if due.is_none() {
                    return Err(Refused(Self { path, due, body: Body::Open(body) }, Why::NotOpen));
                }
                let failure = Failure::new(Failure::TIMEOUT, "the step's time-out passed");
                Ok(Self::settle(path, due, Inside::Broken(*body, failure), fx))
            }
            Body::Open(body) => match inside(*body, fx) {
                Ok(inside) => Ok(Self::settle(path, due, inside.into(), fx)),
                Err(Refused(body, why)) => Err(Refused(Self { path, due, body: Body::Open(Box::new(body)) }, why)),
            },
        }
    }

    fn settle<U: Undo, T>(path: Path, due: Option<Time>, inside: Inside<B, T>, fx: &mut Fx<'_, U>) -> Flow<Self, T> {
        match inside {
            Inside::Stay(body) => Flow::Stay(Self { path, due, body: Body::Open(Box::new(body)) }),
            Inside::Done(result) => {
                fx.out.notes.push(Note::StepCompleted { path });
                Flow::Done(result)
            }
            Inside::Failed(failure) => {
                fx.out.notes.push(Note::StepFailed { path, failure: failure.clone() });
                Flow::Failed(failure)
            }
            Inside::Broken(body, failure) => {
                fx.out.notes.push(Note::StepFailed { path, failure: failure.clone() });
                Self::drained(path, due, Drain::start(&body, failure, fx))
            }
        }
    }

    fn drained<T>(path: Path, due: Option<Time>, flow: Flow<Drain, T>) -> Flow<Self, T> {
        match flow {
            Flow::Stay(drain) => Flow::Stay(Self { path, due, body: Body::Draining(drain) }),
            Flow::Done(result) => Flow::Done(result),
            Flow::Failed(failure) => Flow::Failed(failure),
        }
    }
}

/// What happened inside a composite step.
#[derive(Debug)]
pub enum Inside<B, T> {
    Stay(B),
    Done(T),
    /// Failed with nothing else open inside.
    Failed(Failure),
    /// Failed while others inside are open: they are stopped first.
    Broken(B, Failure),
}

/// A sequence: at most one thing is open in it, so that its failure leaves nothing behind.
impl<B, T> From<Flow<B, T>> for Inside<B, T> {
    fn from(flow: Flow<B, T>) -> Self {
        match flow {
            Flow::Stay(body) => Inside::Stay(body),
            Flow::Done(result) => Inside::Done(result),
            Flow::Failed(failure) => Inside::Failed(failure),
        }
    }
}

impl<B: Part> Part for Within<B> {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        match &self.body {
            Body::Draining(drain) => drain.open(visit),
            Body::Open(body) => {
                if let Some(due) = self.due {
                    visit(Open::Timer { path: self.path, timer: Timer::Timeout, due });
                }
                body.open(visit);
            }
        }
    }
}
