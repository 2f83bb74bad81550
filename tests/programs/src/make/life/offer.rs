//! Giving events to the steps that are open.

use super::super::steps::inside;
use super::*;

impl<'p> Life<'p> {
    pub(super) fn offer_seq(
        &mut self,
        steps: &'p [Step],
        seq: &mut Seq,
        prefix: &str,
        at: &str,
        happened: &Happened,
    ) -> Offered {
        let step = &steps[seq.at];
        match self.offer_step(step, &mut seq.run, prefix, at, happened) {
            Offered::Done => match self.enter_from(steps, seq.at + 1, prefix) {
                Flow::Stay(next) => {
                    *seq = next;
                    Offered::Stays
                }
                Flow::Done => Offered::Done,
                Flow::Failed(error) => Offered::Failed(error),
            },
            other => other,
        }
    }

    pub(super) fn offer_step(
        &mut self,
        step: &'p Step,
        run: &mut Run,
        prefix: &str,
        at: &str,
        happened: &Happened,
    ) -> Offered {
        let path = join(prefix, &step.id);
        if let Run::Catch(which, error, seq) = run {
            self.errors.push(error.clone());
            let offered = self.offer_seq(&step.catch[*which].1, seq, &path, at, happened);
            self.errors.pop();
            return offered;
        }
        self.catches.push(step.catch.iter().map(|(error, _)| *error).collect());
        let offered = self.offer_verb(step, run, &path, at, happened);
        self.catches.pop();
        let Offered::Failed(error) = offered else { return offered };
        self.placed(run, |life| life.caught(step, &path, error))
    }

    /// What follows takes the place of `run`.
    pub(super) fn placed(
        &mut self,
        run: &mut Run,
        flow: impl FnOnce(&mut Self) -> Flow<Run>,
    ) -> Offered {
        match flow(self) {
            Flow::Stay(next) => {
                *run = next;
                Offered::Stays
            }
            Flow::Done => Offered::Done,
            Flow::Failed(error) => Offered::Failed(error),
        }
    }

    pub(super) fn offer_verb(
        &mut self,
        step: &'p Step,
        run: &mut Run,
        path: &str,
        at: &str,
        happened: &Happened,
    ) -> Offered {
        if step.is_timed && path == at && *happened == Happened::TimedOut {
            if let Run::Drain(..) = run {
                return Offered::Refused;
            }
            let stopped = std::mem::replace(run, Run::Sleep);
            return self.placed(run, |life| life.drain(step, &stopped, path, "Timeout".into()));
        }
        if let (Run::Task(attempts), Verb::Task(task) | Verb::TaskThen(task, _)) =
            (&mut *run, &step.verb)
            && path == at
            && self.attempted(attempts, task.retry.as_ref(), happened) == Attempted::Open
        {
            return Offered::Stays;
        }
        match run {
            Run::Task(_) if path == at => match (self.ended(path, happened), happened).1 {
                Happened::Completed(result) => {
                    let (Verb::Task(task) | Verb::TaskThen(task, _)) = &step.verb else {
                        return Offered::Refused;
                    };
                    if !task.returns.is_empty() {
                        self.keep(&step.id, result.clone());
                    }
                    match step.verb {
                        Verb::TaskThen(..) => {
                            self.placed(run, |life| life.enter_inside(&step.verb, 0, path))
                        }
                        _ => Offered::Done,
                    }
                }
                Happened::Failed(error) if self.is_caught(error) => {
                    Offered::Failed((*error).to_owned())
                }
                Happened::Failed(error) => {
                    self.exhausted = Some((*error).to_owned());
                    *run = Run::Exhausted;
                    Offered::Stays
                }
                _ => Offered::Refused,
            },
            Run::Wait(_) if path == at && *happened == Happened::TimedOut => {
                Offered::Failed("Timeout".into())
            }
            Run::Wait(_) if path == at => {
                let (Happened::Received(event), Verb::Wait { rest, .. }) = (happened, &step.verb)
                else {
                    return Offered::Refused;
                };
                self.event = Some(event.clone());
                let holds = rest.as_ref().map_or(Ok(true), |rest| self.holds(rest));
                self.event = None;
                match holds {
                    Ok(true) => {
                        self.keep(&step.id, event.clone());
                        Offered::Done
                    }
                    Ok(false) => Offered::Refused,
                    Err(Impossible) => Offered::Failed(EXPRESSION.into()),
                }
            }
            Run::Sleep if path == at => Offered::Done,
            Run::Pause(round) if path == at => {
                let round = *round + 1;
                self.placed(run, |life| life.rounds(step, round, path))
            }
            Run::Inside(list, seq) => {
                self.offer_seq(inside(&step.verb)[*list], seq, path, at, happened)
            }
            Run::Branches(branches) => {
                let lists = inside(&step.verb);
                for (branch, steps) in branches.iter_mut().zip(lists) {
                    let Some(seq) = branch else { continue };
                    match self.offer_seq(steps, seq, path, at, happened) {
                        Offered::Refused => {}
                        Offered::Stays => return Offered::Stays,
                        Offered::Done => {
                            *branch = None;
                            return if branches.iter().all(Option::is_none) {
                                Offered::Done
                            } else {
                                Offered::Stays
                            };
                        }
                        Offered::Failed(error) => {
                            *branch = None;
                            let stopped = std::mem::replace(run, Run::Sleep);
                            return self
                                .placed(run, |life| life.drain(step, &stopped, path, error));
                        }
                    }
                }
                Offered::Refused
            }
            Run::Elements(each) => {
                self.offer_element(step, each, path, at, happened).unwrap_or_else(|flow| {
                    let each = std::mem::replace(run, Run::Sleep);
                    self.placed(run, |life| match (flow, each) {
                        (None, Run::Elements(each)) => life.fill(step, each, path),
                        (Some(error), each) => life.drain(step, &each, path, error),
                        (None, _) => Flow::Done,
                    })
                })
            }
            Run::Round(round, seq) => {
                let (Verb::Repeat { steps, .. }, round) = (&step.verb, *round) else {
                    return Offered::Refused;
                };
                match self.offer_seq(steps, seq, &format!("{path}#{round}"), at, happened) {
                    Offered::Done => self.placed(run, |life| match life.after_round(step, round) {
                        Some(flow) => flow,
                        None => life.rounds(step, round + 1, path),
                    }),
                    other => other,
                }
            }
            Run::Drain(open, error) => {
                let Some(found) = open.iter().position(|open| open.path == at) else {
                    return Offered::Refused;
                };
                let task = open.remove(found);
                self.ended(at, happened);
                let has_result =
                    matches!(&task.what, What::Task { returns, .. } if !returns.is_empty());
                let (done, error) = (open.is_empty(), error.clone());
                // What is inside an `each` in here has no reader any more.
                let within = &task.path[path.len()..];
                if let Happened::Completed(result) = happened
                    && has_result
                    && !within.contains('[')
                {
                    let id = task.path.rsplit('/').next().unwrap_or_default().to_owned();
                    self.keep(&id, result.clone());
                }
                if done { Offered::Failed(error) } else { Offered::Stays }
            }
            _ => Offered::Refused,
        }
    }

    /// `Err`: what follows; a failure, or the next elements.
    pub(super) fn offer_element(
        &mut self,
        step: &'p Step,
        each: &mut Elements,
        path: &str,
        at: &str,
        happened: &Happened,
    ) -> Result<Offered, Option<String>> {
        let Verb::Each { item, steps, yields, .. } = &step.verb else {
            return Ok(Offered::Refused);
        };
        for (index, slot) in each.slots.iter_mut().enumerate() {
            let Slot::Open(seq, frame) = slot else { continue };
            self.frames.push(std::mem::take(frame));
            self.items.push((item.clone(), each.items[index].clone()));
            let offered = self.offer_seq(steps, seq, &format!("{path}[{index}]"), at, happened);
            let ended = if offered == Offered::Done {
                self.yielded(yields.as_ref())
            } else {
                Ok(Val::Null)
            };
            self.items.pop();
            *frame = self.frames.pop().unwrap_or_default();
            match (offered, ended) {
                (Offered::Refused, _) => {}
                (Offered::Stays, _) => return Ok(Offered::Stays),
                (Offered::Done, Ok(value)) => {
                    *slot = Slot::Done(value);
                    return Err(None);
                }
                (Offered::Done, Err(Impossible)) => {
                    *slot = Slot::Waiting;
                    return Err(Some(EXPRESSION.into()));
                }
                (Offered::Failed(error), _) => {
                    *slot = Slot::Waiting;
                    return Err(Some(error));
                }
            }
        }
        Ok(Offered::Refused)
    }
}
