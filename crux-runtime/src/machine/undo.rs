//! The undo stack: for every dispatched step that has an `undo`, the values that the undo's input
//! is made of. States carry nothing for it.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::fx::Env;
use super::{Failure, Path, Time};

/// The workflow's generated enum with a variant for each step that has an undo, holding what its
/// `with` reads.
pub trait Undo: Send + 'static {
    /// The step completed: keep its result for the undo's input. Called with results that the step
    /// has accepted.
    fn completed(&mut self, result: &RawValue);

    /// The node of the undo and its input.
    fn input(&self, env: &Env, now: Time) -> (u16, Result<Arc<RawValue>, Failure>);
}

/// Workflows without any undo.
#[derive(Debug)]
pub enum NoUndo {}

impl Undo for NoUndo {
    fn completed(&mut self, _: &RawValue) {
        match *self {}
    }

    fn input(&self, _: &Env, _: Time) -> (u16, Result<Arc<RawValue>, Failure>) {
        match *self {}
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Dispatched, nothing known; it has surely not happened if it ends here.
    Pending,
    Unknown,
    Completed,
}

#[derive(Debug)]
pub(super) struct Entry<U> {
    pub(super) path: Path,
    pub(super) value: U,
    pub(super) stage: Stage,
}

/// Oldest first.
#[derive(Debug)]
pub struct UndoStack<U>(Vec<Entry<U>>);

impl<U: Undo> UndoStack<U> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn push(&mut self, path: Path, value: U) {
        self.0.push(Entry { path, value, stage: Stage::Pending });
    }

    /// The newest of that path: a step in a `repeat` has one per round, distinguished by the round
    /// in its path.
    fn entry(&mut self, path: &Path) -> Option<&mut Entry<U>> {
        self.0.iter_mut().rev().find(|entry| entry.path == *path)
    }

    pub(super) fn completed(&mut self, path: &Path, result: &RawValue) {
        if let Some(entry) = self.entry(path) {
            entry.value.completed(result);
            entry.stage = Stage::Completed;
        }
    }

    /// An attempt may have happened; a later one may still say more.
    pub(super) fn unknown(&mut self, path: &Path) {
        if let Some(entry) = self.entry(path).filter(|entry| entry.stage == Stage::Pending) {
            entry.stage = Stage::Unknown;
        }
    }

    /// Forget what surely did not happen.
    pub(super) fn settle(&mut self) {
        self.0.retain(|entry| entry.stage != Stage::Pending);
    }

    pub(super) fn newest(&self) -> Option<&Entry<U>> {
        self.0.last()
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
