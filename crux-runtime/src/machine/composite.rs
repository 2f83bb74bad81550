//! A composite step around the scope or parts inside it: its timeout, and the stop of everything
//! inside when it fails.

use std::panic::{RefUnwindSafe, UnwindSafe};

use super::drain::Drain;
use super::effect::Note;
use super::event::{StepEvent, StepHappened, Timer};
use super::flow::{Applied, Flow, Refused};
use super::fx::Fx;
use super::part::{Open, Part};
use super::undo::Undo;
use super::{Failure, Path, Time};

/// A group, parallel, switch, each or repeat with the state `B` inside.
#[derive(Debug)]
pub struct Composite<B> {
    path: Path,
    due: Option<Time>,
    body: Body<B>,
}

// Whether a state is unwind safe rustc finds by looking through all states inside it, which is too
// deep for rustdoc in a workflow nested as deep as the compiler accepts. Nothing sees a state after
// a panic: an instance that panics is parked, and its state is dropped.
impl<B> UnwindSafe for Composite<B> {}
impl<B> RefUnwindSafe for Composite<B> {}

#[derive(Debug)]
enum Body<B> {
    Open(Box<B>),
    Draining(Drain),
}

impl<B: Part> Composite<B> {
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
                Err(Refused(drain, why)) => {
                    Err(Refused(Self { path, due, body: Body::Draining(drain) }, why))
                }
            },
            // Also without a timeout: it may have been taken away since this was recorded, and the
            // journal must go on to mean the same.
            Body::Open(body)
                if event.path == path
                    && matches!(event.what, StepHappened::TimerFired { timer: Timer::Timeout }) =>
            {
                let failure = Failure::new(Failure::TIMEOUT, "the step's timeout passed");
                Ok(Self::settle(path, due, Inside::Broken(*body, failure), fx))
            }
            Body::Open(body) => match inside(*body, fx) {
                Ok(inside) => Ok(Self::settle(path, due, inside.into(), fx)),
                Err(Refused(body, why)) => {
                    Err(Refused(Self { path, due, body: Body::Open(Box::new(body)) }, why))
                }
            },
        }
    }

    fn settle<U: Undo, T>(
        path: Path,
        due: Option<Time>,
        inside: Inside<B, T>,
        fx: &mut Fx<'_, U>,
    ) -> Flow<Self, T> {
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
                Self::drained(path, due, Drain::start(path, &body, failure, fx))
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

impl<B: Part> Part for Composite<B> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::definition::{Definition, Hooks, OnExhausted};
    use super::super::effect::Effects;
    use super::super::kept::Kept;
    use super::super::undo::{NoUndo, UndoStack};
    use super::super::{Env, Json, RawValue, Wait};
    use super::*;

    static DEFINITION: Definition = Definition {
        workflow: "test",
        version: 1,
        retired: false,
        hash: "",
        policy_hash: "",
        source: "",
        description: "",
        nodes: &[],
        triggers: &[],
        hooks: Hooks { on_start: None, on_complete: None, on_failure: None },
        deadline_ms: None,
        on_exhausted: OnExhausted::Undo,
        retain_ms: 0,
        config: &[],
        document: "{}",
        input_schema: "{}",
        output_schema: "{}",
    };

    fn within<R>(work: impl FnOnce(&mut Fx<'_, NoUndo>) -> R) -> R {
        let input = Arc::from(RawValue::NULL.to_owned());
        let env = Env {
            id: String::new(),
            request_id: String::new(),
            owner: String::new(),
            started_at: Time(0),
            config: Default::default(),
            input,
        };
        let (mut out, mut undo, mut kept, mut exhausted) =
            (Effects::default(), UndoStack::new(), Kept::default(), Vec::new());
        let mut fx = Fx {
            definition: &DEFINITION,
            env: &env,
            now: Time(0),
            at: Default::default(),
            out: &mut out,
            undo: &mut undo,
            kept: &mut kept,
            exhausted: &mut exhausted,
        };
        work(&mut fx)
    }

    /// Timeouts are policy: a build may take one away while the journals of its instances say that
    /// it passed.
    #[test]
    fn a_recorded_time_out_is_replayed_though_the_step_has_none_any_more() {
        let passed = |node| StepEvent {
            path: Path::new(node),
            what: StepHappened::TimerFired { timer: Timer::Timeout },
        };
        for timeout_ms in [Some(5), None] {
            let failed = within(|fx| {
                let Flow::Stay(wait) = Wait::<Json>::start(0, "reviewed", Ok(None), timeout_ms, fx)
                else {
                    panic!("it waits")
                };
                wait.apply(&passed(0), fx)
            });
            assert!(
                matches!(&failed, Ok(Flow::Failed(failure)) if failure.name == Failure::TIMEOUT),
                "{failed:?}"
            );
            let failed = within(|fx| {
                let Flow::Stay(group) = Composite::start(1, timeout_ms, fx, |fx| {
                    Wait::<Json>::start(2, "reviewed", Ok(None), None, fx)
                }) else {
                    panic!("it waits inside")
                };
                group.apply(&passed(1), fx, |wait, fx| wait.apply(&passed(2), fx))
            });
            assert!(
                matches!(&failed, Ok(Flow::Failed(failure)) if failure.name == Failure::TIMEOUT),
                "{failed:?}"
            );
        }
    }
}
