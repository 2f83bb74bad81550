//! Stopping what is open inside one step: nothing new starts, running attempts run to their end
//! or timeout and are recorded, then the step fails with the failure that stopped it.

use super::effect::{Effect, Note};
use super::event::{StepEvent, StepHappened};
use super::flow::{Applied, Flow, Refused, RejectReason};
use super::fx::Fx;
use super::part::{Open, Part};
use super::task::{Attempt, TaskFlow, TaskState};
use super::undo::Undo;
use super::{Failure, Path};

/// The attempts that are still running, and why they are the last.
#[derive(Debug)]
pub struct Drain {
    tasks: Vec<TaskState>,
    failure: Failure,
}

impl Drain {
    /// Stops everything that is open in `part`, the inside of the step at `around`.
    pub(super) fn start<U: Undo, T>(
        around: Path,
        part: &dyn Part,
        failure: Failure,
        fx: &mut Fx<'_, U>,
    ) -> Flow<Self, T> {
        let mut tasks = Vec::new();
        part.open(&mut |open| match open {
            Open::Task(task) if task.attempt == Attempt::Sent => {
                fx.out.all.push(Effect::Cancel { path: task.path });
                tasks.push(task.clone());
            }
            Open::Wait { path, event, value, .. } => {
                fx.out.all.push(Effect::Unsubscribe {
                    path,
                    event,
                    value: value.map(str::to_owned),
                });
                fx.out.notes.push(Note::StepSkipped { path });
            }
            Open::Task(task) => fx.out.notes.push(Note::StepSkipped { path: task.path }),
            // A loop between two rounds: the step itself has failed, which has been said.
            Open::Timer { path, .. } if path == around => {}
            Open::Timer { path, .. } => fx.out.notes.push(Note::StepSkipped { path }),
        });
        Self { tasks, failure }.flow()
    }

    fn flow<T>(self) -> Flow<Self, T> {
        if self.tasks.is_empty() { Flow::Failed(self.failure) } else { Flow::Stay(self) }
    }

    pub(super) fn apply<U: Undo, T>(
        mut self,
        event: &StepEvent,
        fx: &mut Fx<'_, U>,
    ) -> Applied<Self, T> {
        let Some(at) = self.tasks.iter().position(|task| task.path == event.path) else {
            return Err(Refused(self, RejectReason::NotOpen));
        };
        let Some(task) = fx.definition.task(event.path.node) else {
            return Err(Refused(self, RejectReason::NotOpen));
        };
        let state = &mut self.tasks[at];
        if let Err(why) = state.accepts(&event.what, task) {
            return Err(Refused(self, why));
        }
        // A retry that was decided is not made: leaving the list is how a task ends here.
        let still_running = match &event.what {
            StepHappened::Started { .. } => matches!(state.apply(&event.what, fx), TaskFlow::Open),
            StepHappened::Completed { result, .. } => {
                fx.undo.completed(&state.path, result);
                fx.keep(&event.path, result);
                false
            }
            StepHappened::Failed { outcome: super::Outcome::Unknown, .. }
            | StepHappened::Lost { .. } => {
                fx.undo.unknown(&state.path);
                false
            }
            _ => false,
        };
        if !still_running {
            self.tasks.remove(at);
        }
        Ok(self.flow())
    }
}

impl Part for Drain {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        for task in &self.tasks {
            task.open(visit);
        }
    }
}
