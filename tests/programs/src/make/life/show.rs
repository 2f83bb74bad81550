//! What is open.

use super::super::steps::inside;
use super::*;

impl Life<'_> {
    /// Everything that is open.
    pub fn open(&self) -> Vec<Open> {
        if self.outcome != Outcome::Running {
            return Vec::new();
        }
        if let Some((_, path)) = &self.undoing {
            return vec![Open {
                path: path.clone(),
                what: What::Task { returns: Fields::new(), raises: false, is_undo: true },
            }];
        }
        if let Some((_, tasks)) = &self.stopping {
            return if self.outcome == Outcome::Running { tasks.clone() } else { Vec::new() };
        }
        let mut all = Vec::new();
        if let Some(root) = &self.root {
            self.open_seq(&self.program.steps, root, "", &mut all);
        }
        all
    }

    pub(super) fn open_seq(&self, steps: &[Step], seq: &Seq, prefix: &str, all: &mut Vec<Open>) {
        let step = &steps[seq.at];
        self.open_inside(step, &seq.run, &join(prefix, &step.id), all);
    }

    pub(super) fn open_inside(&self, step: &Step, run: &Run, path: &str, all: &mut Vec<Open>) {
        let mut push = |what: What| all.push(Open { path: path.to_owned(), what });
        match (run, &step.verb) {
            (Run::Task, Verb::Task(task) | Verb::TaskThen(task, _)) => {
                push(What::Task {
                    returns: task.returns.clone(),
                    raises: task.raises,
                    is_undo: false,
                });
            }
            (Run::Wait(value), Verb::Wait { event, is_timed, .. }) => {
                let fields = self
                    .program
                    .events
                    .iter()
                    .find(|(name, _)| name == event)
                    .map(|(_, fields)| fields.clone());
                push(What::Wait {
                    event: event.clone(),
                    value: value.clone(),
                    fields: fields.unwrap_or_default(),
                    is_timed: *is_timed,
                });
            }
            (Run::Sleep | Run::Pause(_), _) => push(What::Sleep),
            (Run::Inside(list, seq), verb) => self.open_seq(inside(verb)[*list], seq, path, all),
            (Run::Branches(branches), verb) => {
                for (branch, steps) in branches.iter().zip(inside(verb)) {
                    branch.iter().for_each(|seq| self.open_seq(steps, seq, path, all));
                }
            }
            (Run::Elements(each), Verb::Each { steps, .. }) => {
                for (index, slot) in each.slots.iter().enumerate() {
                    if let Slot::Open(seq, _) = slot {
                        self.open_seq(steps, seq, &format!("{path}[{index}]"), all);
                    }
                }
            }
            (Run::Round(round, seq), Verb::Repeat { steps, .. }) => {
                self.open_seq(steps, seq, &format!("{path}#{round}"), all)
            }
            (Run::Catch(which, _, seq), _) => self.open_seq(&step.catch[*which].1, seq, path, all),
            (Run::Drain(open, _), _) => all.extend(open.iter().cloned()),
            _ => {}
        }
    }
}
