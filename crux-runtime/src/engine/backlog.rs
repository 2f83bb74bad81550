//! Tasks for which the executor or the bus had no room: by step type, oldest first. New tasks of a
//! step type queue behind them.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::outbox::EffectId;
use crate::task::Task;

/// A task that waits for room, and its effect.
pub(super) struct Waiting {
    pub(super) effect: EffectId,
    pub(super) task: Task,
}

#[derive(Default)]
pub(super) struct Backlog {
    /// No queue is empty.
    by_step_type: BTreeMap<&'static str, VecDeque<Waiting>>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.by_step_type.is_empty()
    }

    /// Dispatches a task, unless others of its step type wait or there is no room: then it waits.
    pub(super) fn dispatch(
        &mut self,
        effect: EffectId,
        task: Task,
        dispatch: impl FnOnce(Task) -> Result<(), Task>,
    ) {
        let step_type = task.contract.step_type;
        if let Some(queue) = self.by_step_type.get_mut(step_type) {
            return queue.push_back(Waiting { effect, task });
        }
        if let Err(task) = dispatch(task) {
            self.by_step_type.insert(step_type, VecDeque::from([Waiting { effect, task }]));
        }
    }

    /// Dispatches waiting tasks: of each step type the oldest first, until one finds no room. Those
    /// that are not `wanted` any more are dropped.
    pub(super) fn retry(
        &mut self,
        wanted: impl Fn(&Waiting) -> bool,
        dispatch: impl Fn(Task) -> Result<(), Task>,
    ) {
        self.by_step_type.retain(|_, queue| {
            while let Some(waiting) = queue.pop_front() {
                if !wanted(&waiting) {
                    continue;
                }
                let Waiting { effect, task } = waiting;
                if let Err(task) = dispatch(task) {
                    queue.push_front(Waiting { effect, task });
                    return true;
                }
            }
            false
        });
    }

    /// Takes all tasks out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Task> + use<> {
        let queues = std::mem::take(&mut self.by_step_type).into_values();
        queues.flatten().map(|waiting| waiting.task)
    }

    pub(super) fn clear(&mut self) {
        self.by_step_type.clear();
    }
}
