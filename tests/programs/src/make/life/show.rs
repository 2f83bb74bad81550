//! What is open.

use super::super::steps::inside;
use super::*;

impl Life<'_> {
    /// It is parked as well where a task waits for a person while others go on.
    pub fn outcome(&self) -> Outcome {
        let has_person = self.all_open().iter().any(|open| open.what == What::Person);
        if has_person { Outcome::Parked } else { self.outcome.clone() }
    }

    /// Everything that an event can be offered to.
    pub fn open(&self) -> Vec<Open> {
        let mut all = self.all_open();
        all.retain(|open| open.what != What::Person);
        all
    }

    fn all_open(&self) -> Vec<Open> {
        if self.outcome != Outcome::Running {
            return Vec::new();
        }
        if let Some(undoing) = &self.undoing {
            let returns = Fields::new();
            let what = match &undoing.attempts {
                Attempts { is_backing_off: true, .. } => What::BackOff { returns },
                Attempts { number, .. } => {
                    What::Task { returns, raises: false, is_undo: true, attempt: *number }
                }
            };
            return vec![Open { path: undoing.attempts.path.clone(), what }];
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
        let before = all.len();
        let mut push = |what: What| all.push(Open { path: path.to_owned(), what });
        match (run, &step.verb) {
            (Run::Task(attempts), Verb::Task(task) | Verb::TaskThen(task, _)) => {
                let returns = task.returns.clone();
                push(if attempts.is_backing_off {
                    What::BackOff { returns }
                } else {
                    let attempt = attempts.number;
                    What::Task { returns, raises: task.raises, is_undo: false, attempt }
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
            (Run::Exhausted, _) if self.program.parks => push(What::Person),
            _ => {}
        }
        // The time of what is around a person does not run.
        let has_person = all[before..].iter().any(|open| open.what == What::Person);
        if step.is_timed && !has_person && !matches!(run, Run::Drain(..) | Run::Catch(..)) {
            all.push(Open { path: path.to_owned(), what: What::Timeout });
        }
    }
}
