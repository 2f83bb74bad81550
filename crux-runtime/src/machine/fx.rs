//! The surroundings of one `apply`: what the step may read (time, instance, where it stands) and
//! where its effects go. Generated code passes it down as `fx` and never looks inside.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::effect::{Effect, Effects, Note, Waiting};
use super::flow::Flow;
use super::kept::Kept;
use super::part::Never;
use super::path::{Indices, Path};
use super::undo::{Undo, UndoStack};
use super::{Definition, Failure, Time, Value};

/// Constant facts about an instance.
#[derive(Debug, Clone)]
pub struct Env {
    /// The instance's id as text, without prefix.
    pub id: String,
    pub request_id: String,
    /// The client that the instance belongs to; `""`: none.
    pub owner: String,
    pub started_at: Time,
    pub config: BTreeMap<String, String>,
    /// The input as it was recorded.
    pub input: Arc<RawValue>,
}

impl Env {
    /// A configuration value as it was when the instance started; empty if there was none.
    pub fn config(&self, name: &str) -> &str {
        self.config.get(name).map_or("", String::as_str)
    }
}

/// A task whose attempts are used up and whose failure no `catch` takes. It stays in the state, so
/// that a person can retry it.
#[derive(Debug, Clone)]
pub struct Exhausted {
    pub path: Path,
    pub failure: Failure,
}

/// See the module's text. `U` is the workflow's type of undo values.
pub struct Fx<'a, U> {
    pub(super) definition: &'static Definition,
    pub(super) env: &'a Env,
    pub(super) now: Time,
    pub(super) at: Indices,
    pub(super) out: &'a mut Effects,
    pub(super) undo: &'a mut UndoStack<U>,
    pub(super) kept: &'a mut Kept,
    pub(super) exhausted: &'a mut Vec<Exhausted>,
}

impl<'a, U: Undo> Fx<'a, U> {
    pub fn env(&self) -> &'a Env {
        self.env
    }

    /// The event's own time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The step of that number, in the elements and rounds that are being worked on.
    pub fn path(&self, node: u16) -> Path {
        Path { node, at: self.at }
    }

    /// How many loops are around what is being worked on.
    pub(super) fn depth(&self) -> usize {
        self.at.len()
    }

    /// Work inside the element or round `index`.
    pub(super) fn inside<R>(&mut self, index: u32, work: impl FnOnce(&mut Self) -> R) -> R {
        let outside = self.at;
        // The compiler refuses deeper nesting, so the indices always fit.
        self.at = outside.pushed(index).unwrap_or(outside);
        let result = work(self);
        self.at = outside;
        result
    }

    /// The result of a step inside one that has failed; `None`: it had not completed.
    pub fn kept<T: Value>(&self, node: u16) -> Option<Arc<T>> {
        self.kept.get(self.definition, node, self.at)
    }

    /// A step has completed with that result.
    pub(super) fn keep(&mut self, path: &Path, result: &RawValue) {
        self.kept.keep(self.definition, path, result);
    }

    /// The step's typed undo goes on the stack when the step is dispatched.
    pub fn push_undo(&mut self, node: u16, value: U) {
        let path = self.path(node);
        self.undo.push(path, value);
    }

    /// The step's `when`; where it does not hold, the step is skipped.
    pub fn holds(&mut self, node: u16, when: bool) -> bool {
        if !when {
            let path = self.path(node);
            self.out.notes.push(Note::StepSkipped { path });
        }
        when
    }

    /// As [`Self::holds`]; a `when` that could not be computed is the step's failure.
    pub fn try_holds(&mut self, node: u16, when: Result<bool, Failure>) -> Result<bool, Failure> {
        match when {
            Ok(when) => Ok(self.holds(node, when)),
            Err(failure) => Err(self.failed(node, failure)),
        }
    }

    /// A step that takes no time, or a composite one, is done.
    pub fn completed(&mut self, node: u16) {
        let path = self.path(node);
        self.out.notes.push(Note::StepCompleted { path });
    }

    /// A step that failed before anything of it was open; gives the failure back.
    pub fn failed(&mut self, node: u16, failure: Failure) -> Failure {
        let path = self.path(node);
        self.out.notes.push(Note::StepFailed { path, failure: failure.clone() });
        failure
    }

    /// An `emit`: publish, and done.
    pub fn emit<D: Value>(
        &mut self,
        node: u16,
        event: &'static str,
        routing_key: &'static str,
        data: Result<D, Failure>,
    ) -> Flow<Never, ()> {
        let path = self.path(node);
        let data = match data.and_then(|data| super::json::encode(&data)) {
            Ok(data) => data,
            Err(failure) => return Flow::Failed(self.failed(node, failure)),
        };
        self.out.all.push(Effect::Emit { path, event, routing_key, data });
        self.out.notes.push(Note::StepCompleted { path });
        Flow::Done(())
    }

    /// A `fail`, with its message.
    pub fn fail(
        &mut self,
        node: u16,
        error: &'static str,
        message: Result<String, Failure>,
    ) -> Failure {
        self.failed(
            node,
            message.map_or_else(|failure| failure, |message| Failure::new(error, message)),
        )
    }

    pub(super) fn waiting(&mut self, path: Path, why: Waiting) {
        self.out.notes.push(Note::StepWaiting { path, why });
    }
}

/// A refused event must leave no trace, not even by code that had begun to work: the number of
/// effects before, to return to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    effects: usize,
    notes: usize,
}

impl Effects {
    pub(super) fn mark(&self) -> Mark {
        Mark { effects: self.all.len(), notes: self.notes.len() }
    }

    /// As if it had been noted then.
    pub(super) fn note_at(&mut self, mark: Mark, note: Note) {
        self.notes.insert(mark.notes.min(self.notes.len()), note);
    }

    pub(super) fn is_at(&self, mark: Mark) -> bool {
        self.all.len() == mark.effects && self.notes.len() == mark.notes
    }
}
