//! The steps of a `catch`, with the failure that it took.

use std::panic::{RefUnwindSafe, UnwindSafe};

use super::Failure;
use super::flow::{Applied, Flow, Refused};
use super::fx::Fx;
use super::part::{Open, Part};
use super::undo::Undo;

/// A `catch` that is being worked on: its scope's state `S`, and what the steps in it read as
/// `error`.
#[derive(Debug)]
pub struct Handler<S> {
    failure: Failure,
    inside: Box<S>,
}

// As of `Composite`.
impl<S> UnwindSafe for Handler<S> {}
impl<S> RefUnwindSafe for Handler<S> {}

impl<S> Handler<S> {
    /// Enters the first of the steps.
    pub fn start<U: Undo, T>(
        failure: Failure,
        fx: &mut Fx<'_, U>,
        enter: impl FnOnce(&Failure, &mut Fx<'_, U>) -> Flow<S, T>,
    ) -> Flow<Self, T> {
        let flow = enter(&failure, fx);
        Self::wrap(failure, flow)
    }

    /// Offers an event to the steps.
    pub fn apply<U: Undo, T>(
        self,
        fx: &mut Fx<'_, U>,
        inside: impl FnOnce(&Failure, S, &mut Fx<'_, U>) -> Applied<S, T>,
    ) -> Applied<Self, T> {
        match inside(&self.failure, *self.inside, fx) {
            Ok(flow) => Ok(Self::wrap(self.failure, flow)),
            Err(Refused(inside, why)) => {
                Err(Refused(Self { failure: self.failure, inside: Box::new(inside) }, why))
            }
        }
    }

    fn wrap<T>(failure: Failure, flow: Flow<S, T>) -> Flow<Self, T> {
        match flow {
            Flow::Stay(inside) => Flow::Stay(Self { failure, inside: Box::new(inside) }),
            Flow::Done(result) => Flow::Done(result),
            Flow::Failed(failure) => Flow::Failed(failure),
        }
    }
}

impl<S: Part> Part for Handler<S> {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        self.inside.open(visit);
    }
}
