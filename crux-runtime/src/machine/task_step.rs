//! A step being worked on as generated code sees it: a task with the types of its contract. What
//! needs no types is not generic over them: a program has a thousand contracts.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::definition::Contract;
use super::effect::Note;
use super::event::{StepEvent, StepHappened};
use super::flow::{Applied, Flow, Refused, RejectReason};
use super::fx::Fx;
use super::part::{Open, Part};
use super::task::{TaskFlow, TaskState};
use super::undo::Undo;
use super::{Failure, Value, json};

/// A step type in Rust: the generated marker `steps::<type>::Type`.
pub trait StepType: 'static {
    const CONTRACT: &'static Contract;
    type Input: Value + Send + 'static;
    type Output: Value + Send + Sync + 'static;
    /// The errors that it `raises`, as an enum; without any, one that cannot be made.
    type Error: Raised;

    /// The result as it was reported. Step types without a result take whatever comes.
    fn decode_result(result: &RawValue) -> Result<Self::Output, String> {
        json::decode(result)
    }
}

/// The generated enum of the errors that a step type raises.
pub trait Raised: Send + 'static {
    /// By the name that `catch` and `retry` know, with the text that the step gave.
    fn into_failure(self) -> Failure;
}

/// Of services' step types that raise nothing.
impl Raised for Infallible {
    fn into_failure(self) -> Failure {
        match self {}
    }
}

/// A task of a known contract.
#[derive(Debug)]
pub struct TaskStep<C> {
    task: Box<TaskState>,
    contract: PhantomData<fn() -> C>,
}

impl<C: StepType> TaskStep<C> {
    /// Dispatches the first attempt. An input that could not be computed is the step's failure:
    /// caught, or kept for a person.
    pub fn start<U: Undo>(
        node: u16,
        input: Result<C::Input, Failure>,
        fx: &mut Fx<'_, U>,
    ) -> Flow<Self, Arc<C::Output>> {
        Self::of(enter(node, encoded(input), None, fx))
    }

    /// As [`Self::start`], with an idempotency key of the step's own.
    pub fn start_keyed<U: Undo>(
        node: u16,
        input: Result<C::Input, Failure>,
        key: Result<String, Failure>,
        fx: &mut Fx<'_, U>,
    ) -> Flow<Self, Arc<C::Output>> {
        Self::of(enter(node, encoded(input), Some(key), fx))
    }

    fn of<T>(entered: Result<Box<TaskState>, Failure>) -> Flow<Self, T> {
        match entered {
            Ok(task) => Flow::Stay(Self { task, contract: PhantomData }),
            Err(failure) => Flow::Failed(failure),
        }
    }

    /// Offers an event; done with the step's result.
    pub fn apply<U: Undo>(
        mut self,
        event: &StepEvent,
        fx: &mut Fx<'_, U>,
    ) -> Applied<Self, Arc<C::Output>> {
        match offer(&mut self.task, event, fx) {
            Ok(Offered::Open) => Ok(Flow::Stay(self)),
            Ok(Offered::Failed(failure)) => Ok(Flow::Failed(failure)),
            Ok(Offered::Result(result)) => match C::decode_result(result) {
                Ok(output) => {
                    fx.undo.completed(&event.path, result);
                    fx.keep(&event.path, result);
                    Ok(Flow::Done(Arc::new(output)))
                }
                Err(text) => Err(Refused(self, RejectReason::Invalid(text))),
            },
            Err(why) => Err(Refused(self, why)),
        }
    }
}

fn encoded<I: Value>(input: Result<I, Failure>) -> Result<Arc<RawValue>, Failure> {
    match input {
        Ok(input) => json::encode_shared(&input),
        Err(failure) => Err(failure),
    }
}

/// The error is one that the step's `catch` takes.
fn enter<U: Undo>(
    node: u16,
    input: Result<Arc<RawValue>, Failure>,
    key: Option<Result<String, Failure>>,
    fx: &mut Fx<'_, U>,
) -> Result<Box<TaskState>, Failure> {
    let path = fx.path(node);
    let task = match input.and_then(|input| Ok((input, key.transpose()?.map(Arc::from)))) {
        Ok((input, key)) => TaskState::start(path, input, key, fx),
        Err(failure)
            if fx.definition.node(node).is_some_and(|node| node.caught.takes(&failure.name)) =>
        {
            fx.out.notes.push(Note::StepFailed { path, failure: failure.clone() });
            return Err(failure);
        }
        Err(failure) => TaskState::stillborn(path, failure, fx),
    };
    Ok(Box::new(task))
}

/// What an event makes of a task.
enum Offered<'a> {
    Open,
    Failed(Failure),
    /// Done, if this is of the contract's type.
    Result(&'a RawValue),
}

fn offer<'a, U: Undo>(
    state: &mut TaskState,
    event: &'a StepEvent,
    fx: &mut Fx<'_, U>,
) -> Result<Offered<'a>, RejectReason> {
    if event.path != state.path {
        return Err(RejectReason::NotOpen);
    }
    let Some(task) = fx.definition.task(event.path.node) else { return Err(RejectReason::NotOpen) };
    // A success is decoded once, by its type: asking `accepts` first would decode it twice.
    if let StepHappened::Completed { attempt, result } = &event.what {
        if attempt.is_some_and(|attempt| attempt > state.number || attempt == 0) {
            return Err(RejectReason::NotOpen);
        }
        return Ok(Offered::Result(result));
    }
    state.accepts(&event.what, task)?;
    Ok(match state.apply(&event.what, fx) {
        TaskFlow::Failed(failure) => Offered::Failed(failure),
        TaskFlow::Open | TaskFlow::Completed => Offered::Open,
    })
}

impl<C: StepType> Part for TaskStep<C> {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        self.task.open(visit);
    }
}
