//! What is open in a state. Every scope and every part can be asked; recovery, the status document,
//! "why does it wait" and the next wake-up come from the answers alone.

use super::event::Timer;
use super::flow::Applied;
use super::task::TaskState;
use super::{Path, Time};

/// Something that an instance waits for.
#[derive(Debug)]
pub enum Open<'a> {
    /// A task: running, backing off, or exhausted.
    Task(&'a TaskState),
    /// An event; `due`: its timeout.
    Wait { path: Path, event: &'static str, value: Option<&'a str>, due: Option<Time> },
    /// A sleep, a pause between rounds, or the timeout of a composite step.
    Timer { path: Path, timer: Timer, due: Time },
}

impl Open<'_> {
    /// The step that it is about.
    pub fn path(&self) -> Path {
        match self {
            Open::Task(task) => task.path,
            Open::Wait { path, .. } | Open::Timer { path, .. } => *path,
        }
    }
}

/// A scope or a part of one.
pub trait Part {
    /// Calls `visit` for everything that is open, in the order of the definition.
    fn open(&self, visit: &mut dyn FnMut(Open<'_>));
}

/// The scope of an empty branch: it has no states.
#[derive(Debug)]
pub enum Never {}

/// Offering an event to a scope that has no states.
pub fn never<T>(never: Never) -> Applied<Never, T> {
    match never {}
}

/// The variant in which a scope without states would stay.
pub fn never_stays<S>(never: Never) -> S {
    match never {}
}

/// The same beside live values.
pub fn never_stays_with<A, S>(_: A, never: Never) -> S {
    match never {}
}

impl Part for Never {
    fn open(&self, _: &mut dyn FnMut(Open<'_>)) {
        match *self {}
    }
}

impl<P: Part + ?Sized> Part for Box<P> {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        (**self).open(visit);
    }
}
