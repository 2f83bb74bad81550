//! Concurrent branches. Generated code has one struct per `parallel` with a [`Branch`] per
//! branch; it starts them in order and offers each event to the one that it is for.

use super::Failure;
use super::composite::Inside;
use super::flow::{Applied, Flow, Refused, RejectReason};
use super::fx::Fx;
use super::part::{Open, Part};
use super::undo::Undo;

/// One branch: its scope's state while it is open, its result when it is done.
#[derive(Debug)]
pub enum Branch<S, T> {
    Open(S),
    Done(T),
    /// Never begun, or its scope is gone, because a branch failed; what is left is being stopped.
    Stopped,
}

impl<S, T> Branch<S, T> {
    /// Enters the branch, unless one before it has failed.
    pub fn start<U: Undo>(
        failed: &mut Option<Failure>,
        fx: &mut Fx<'_, U>,
        enter: impl FnOnce(&mut Fx<'_, U>) -> Flow<S, T>,
    ) -> Self {
        if failed.is_some() {
            return Branch::Stopped;
        }
        Self::settle(enter(fx), failed)
    }

    fn settle(flow: Flow<S, T>, failed: &mut Option<Failure>) -> Self {
        match flow {
            Flow::Stay(state) => Branch::Open(state),
            Flow::Done(result) => Branch::Done(result),
            Flow::Failed(failure) => {
                *failed = Some(failure);
                Branch::Stopped
            }
        }
    }

    /// Offers an event to the branch.
    pub fn apply(
        &mut self,
        failed: &mut Option<Failure>,
        apply: impl FnOnce(S) -> Applied<S, T>,
    ) -> Result<(), RejectReason> {
        match std::mem::replace(self, Branch::Stopped) {
            Branch::Open(state) => match apply(state) {
                Ok(flow) => *self = Self::settle(flow, failed),
                Err(Refused(state, why)) => {
                    *self = Branch::Open(state);
                    return Err(why);
                }
            },
            closed => {
                *self = closed;
                return Err(RejectReason::NotOpen);
            }
        }
        Ok(())
    }

    /// The result, if it is there: [`Join::join`] looks whether all are.
    pub fn result(self) -> Option<T> {
        if let Branch::Done(result) = self { Some(result) } else { None }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Branch::Done(_))
    }
}

impl<S: Part, T> Part for Branch<S, T> {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        if let Branch::Open(state) = self {
            state.open(visit);
        }
    }
}

/// The generated struct of branches.
pub trait Join: Part + Sized {
    type Out;

    /// The branches' results, or the branches again if not all are done.
    fn join(self) -> Result<Self::Out, Self>;
}

/// After branches have been started or advanced: all done, one failed, or still open.
pub fn joined<B: Join>(branches: B, failed: Option<Failure>) -> Inside<B, B::Out> {
    match failed {
        Some(failure) => Inside::Broken(branches, failure),
        None => match branches.join() {
            Ok(results) => Inside::Done(results),
            Err(branches) => Inside::Stay(branches),
        },
    }
}

/// The outcome of offering an event to a branch of `branches`.
pub fn advanced<B: Join>(
    branches: B,
    advanced: Result<(), RejectReason>,
    failed: Option<Failure>,
) -> Result<Inside<B, B::Out>, Refused<B>> {
    match advanced {
        Ok(()) => Ok(joined(branches, failed)),
        Err(why) => Err(Refused(branches, why)),
    }
}
