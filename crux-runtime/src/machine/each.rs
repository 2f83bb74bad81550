//! Once per element, at most `concurrency` at a time; the results stand in the order of the elements.

use std::sync::Arc;

use super::composite::{Composite, Inside};
use super::effect::Waiting;
use super::event::{StepEvent, StepHappened, Timer};
use super::flow::{Applied, Flow, Refused, RejectReason};
use super::fx::Fx;
use super::part::{Open, Part};
use super::undo::Undo;
use super::{Failure, Path, Time};

/// The elements `I`, and for each the state `S` of its scope or its result `T`.
#[derive(Debug)]
pub struct Each<I, S, T> {
    elements: Arc<Vec<I>>,
    slots: Vec<Slot<S, T>>,
    concurrency: usize,
    /// The first element that has not begun.
    next: usize,
    open: usize,
    path: Path,
    /// Elements that took no time were many: the next ones begin in a separate transition.
    again_at: Option<Time>,
}

#[derive(Debug)]
enum Slot<S, T> {
    Waiting,
    Open(Box<S>),
    Done(T),
}

impl<I, S: Part, T> Each<I, S, T> {
    /// Begins with the first `concurrency` elements.
    fn start<U: Undo>(
        path: Path,
        elements: Result<Vec<I>, Failure>,
        concurrency: usize,
        fx: &mut Fx<'_, U>,
        mut enter: impl FnMut(&I, &mut Fx<'_, U>) -> Flow<S, T>,
    ) -> Inside<Self, Vec<T>> {
        let elements = match elements {
            Ok(elements) if elements.len() > MAX_ELEMENTS => {
                let failure = Failure::expression(format!(
                    "the list has {} elements, the limit is {MAX_ELEMENTS}",
                    elements.len()
                ));
                fx.out.excess = Some(failure.clone());
                return Inside::Failed(failure);
            }
            Ok(elements) => Arc::new(elements),
            Err(failure) => return Inside::Failed(failure),
        };
        let slots = elements.iter().map(|_| Slot::Waiting).collect();
        Self {
            elements,
            slots,
            concurrency: concurrency.max(1),
            next: 0,
            open: 0,
            path,
            again_at: None,
        }
        .fill(fx, &mut enter)
    }

    fn fill<U: Undo>(
        mut self,
        fx: &mut Fx<'_, U>,
        enter: &mut impl FnMut(&I, &mut Fx<'_, U>) -> Flow<S, T>,
    ) -> Inside<Self, Vec<T>> {
        self.again_at = None;
        while self.open < self.concurrency
            && let Some(element) = self.elements.get(self.next)
        {
            if !fx.out.pass() {
                self.again_at = Some(fx.now);
                fx.waiting(self.path, Waiting::Until(fx.now));
                break;
            }
            let index = self.next;
            self.next += 1;
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            self.slots[index] = match fx.inside(number, |fx| enter(element, fx)) {
                Flow::Stay(state) => {
                    self.open += 1;
                    Slot::Open(Box::new(state))
                }
                Flow::Done(result) => {
                    fx.inside(number, |fx| fx.kept.end_element(fx.at));
                    Slot::Done(result)
                }
                Flow::Failed(failure) => return Inside::Broken(self, failure),
            };
        }
        if self.open > 0 || self.next < self.slots.len() {
            return Inside::Stay(self);
        }
        let results = self
            .slots
            .into_iter()
            .filter_map(|slot| if let Slot::Done(result) = slot { Some(result) } else { None });
        Inside::Done(results.collect())
    }

    /// Offers an event to the element that it is for.
    pub fn apply<U: Undo>(
        mut self,
        event: &StepEvent,
        fx: &mut Fx<'_, U>,
        apply: impl FnOnce(&I, S, &mut Fx<'_, U>) -> Applied<S, T>,
        mut enter: impl FnMut(&I, &mut Fx<'_, U>) -> Flow<S, T>,
    ) -> Result<Inside<Self, Vec<T>>, Refused<Self>> {
        if event.path == self.path
            && self.again_at.is_some()
            && matches!(event.what, StepHappened::TimerFired { timer: Timer::Sleep })
        {
            return Ok(self.fill(fx, &mut enter));
        }
        let Some(number) = event.path.index(fx.depth()) else {
            return Err(Refused(self, RejectReason::NotOpen));
        };
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let (Some(slot), Some(element)) = (self.slots.get_mut(index), self.elements.get(index))
        else {
            return Err(Refused(self, RejectReason::NotOpen));
        };
        let state = match std::mem::replace(slot, Slot::Waiting) {
            Slot::Open(state) => state,
            closed => {
                *slot = closed;
                return Err(Refused(self, RejectReason::NotOpen));
            }
        };
        match fx.inside(number, |fx| apply(element, *state, fx)) {
            Err(Refused(state, why)) => {
                *slot = Slot::Open(Box::new(state));
                Err(Refused(self, why))
            }
            Ok(Flow::Stay(state)) => {
                *slot = Slot::Open(Box::new(state));
                Ok(Inside::Stay(self))
            }
            Ok(Flow::Done(result)) => {
                *slot = Slot::Done(result);
                fx.inside(number, |fx| fx.kept.end_element(fx.at));
                self.open -= 1;
                Ok(self.fill(fx, &mut enter))
            }
            Ok(Flow::Failed(failure)) => {
                self.open -= 1;
                Ok(Inside::Broken(self, failure))
            }
        }
    }
}

/// How generated code enters an `each`, and offers it an event.
impl<I, S: Part, T> Composite<Each<I, S, T>> {
    /// See [`Each::start`].
    pub fn each<U: Undo>(
        node: u16,
        timeout_ms: Option<u64>,
        elements: Result<Vec<I>, Failure>,
        concurrency: usize,
        fx: &mut Fx<'_, U>,
        enter: impl FnMut(&I, &mut Fx<'_, U>) -> Flow<S, T>,
    ) -> Flow<Self, Vec<T>> {
        Self::start(node, timeout_ms, fx, |fx| {
            Each::start(fx.path(node), elements, concurrency, fx, enter)
        })
    }

    /// See [`Each::apply`].
    pub fn apply_each<U: Undo>(
        self,
        event: &StepEvent,
        fx: &mut Fx<'_, U>,
        apply: impl FnOnce(&I, S, &mut Fx<'_, U>) -> Applied<S, T>,
        enter: impl FnMut(&I, &mut Fx<'_, U>) -> Flow<S, T>,
    ) -> Applied<Self, Vec<T>> {
        self.apply(event, fx, |each, fx| each.apply(event, fx, apply, enter))
    }
}

/// A list with more elements is the failure `ExpressionError` of the step.
pub const MAX_ELEMENTS: usize = 10_000;

impl<I, S: Part, T> Part for Each<I, S, T> {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        if let Some(due) = self.again_at {
            visit(Open::Timer { path: self.path, timer: Timer::Sleep, due });
        }
        for slot in &self.slots {
            if let Slot::Open(state) = slot {
                state.open(visit);
            }
        }
    }
}
