//! Beginning steps, and going on after them.

use super::super::steps::inside;
use super::*;

impl<'p> Life<'p> {
    /// Steps from the one at `at` on.
    pub(super) fn enter_from(&mut self, steps: &'p [Step], at: usize, prefix: &str) -> Flow<Seq> {
        for (at, step) in steps.iter().enumerate().skip(at) {
            match self.enter(step, prefix) {
                Flow::Stay(run) => return Flow::Stay(Seq { at, run }),
                Flow::Failed(error) => return Flow::Failed(error),
                Flow::Done => {}
            }
        }
        Flow::Done
    }

    pub(super) fn enter(&mut self, step: &'p Step, prefix: &str) -> Flow<Run> {
        let path = join(prefix, &step.id);
        match step.when.as_ref().map(|when| self.holds(when)) {
            Some(Ok(false)) => return Flow::Done,
            Some(Err(Impossible)) => return self.caught(step, &path, EXPRESSION.into()),
            Some(Ok(true)) | None => {}
        }
        self.catches.push(step.catch.iter().map(|(error, _)| *error).collect());
        let flow = self.enter_verb(step, &path);
        self.catches.pop();
        match flow {
            Flow::Failed(error) => self.caught(step, &path, error),
            flow => flow,
        }
    }

    pub(super) fn caught(&mut self, step: &'p Step, path: &str, error: String) -> Flow<Run> {
        let taken = step.catch.iter().position(|(name, _)| name.is_none_or(|name| name == error));
        let Some(which) = taken else { return Flow::Failed(error) };
        self.errors.push(error.clone());
        let flow = self.enter_from(&step.catch[which].1, 0, path);
        self.errors.pop();
        match flow {
            Flow::Stay(seq) => Flow::Stay(Run::Catch(which, error, Box::new(seq))),
            Flow::Done => Flow::Done,
            Flow::Failed(error) => Flow::Failed(error),
        }
    }

    pub(super) fn dispatch(&mut self, task: &'p Task, id: &str, path: &str) -> Flow<Run> {
        let mut eval = Eval::new(self);
        let made = eval.fields(&task.with, &task.takes).and_then(|input| {
            let key = task.key.as_ref().map(|key| eval.text(key));
            Ok((input, key.transpose()?))
        });
        match made {
            Ok((input, key)) => {
                let attempts = Attempts {
                    path: path.to_owned(),
                    number: 1,
                    is_backing_off: false,
                    input: json_of(&input),
                    key,
                };
                self.send(&attempts);
                if let Some(with) = &task.undo {
                    let (path, id) = (path.to_owned(), id.to_owned());
                    let (frames, items, errors) =
                        (self.frames.clone(), self.items.clone(), self.errors.clone());
                    let retry = task.undo_retry.as_ref();
                    self.begun.push(Begun {
                        path,
                        id,
                        with,
                        frames,
                        items,
                        errors,
                        has_completed: false,
                        retry,
                    });
                }
                Flow::Stay(Run::Task(attempts))
            }
            Err(Impossible) if self.is_caught(EXPRESSION) => Flow::Failed(EXPRESSION.into()),
            Err(Impossible) => {
                self.exhausted = Some(EXPRESSION.into());
                Flow::Stay(Run::Exhausted)
            }
        }
    }

    pub(super) fn enter_inside(&mut self, verb: &'p Verb, list: usize, path: &str) -> Flow<Run> {
        let steps = inside(verb)[list];
        match self.enter_from(steps, 0, path) {
            Flow::Stay(seq) => Flow::Stay(Run::Inside(list, Box::new(seq))),
            Flow::Done => Flow::Done,
            Flow::Failed(error) => Flow::Failed(error),
        }
    }

    pub(super) fn enter_verb(&mut self, step: &'p Step, path: &str) -> Flow<Run> {
        let impossible = || Flow::Failed(EXPRESSION.to_owned());
        match &step.verb {
            Verb::Task(task) | Verb::TaskThen(task, _) => self.dispatch(task, &step.id, path),
            Verb::Group(_) => self.enter_inside(&step.verb, 0, path),
            Verb::Parallel(branches) => {
                let mut open = Vec::new();
                let mut failed = None;
                for (_, steps) in branches {
                    open.push(match failed {
                        Some(_) => None,
                        None => match self.enter_from(steps, 0, path) {
                            Flow::Stay(seq) => Some(seq),
                            Flow::Done => None,
                            Flow::Failed(error) => {
                                failed = Some(error);
                                None
                            }
                        },
                    });
                }
                let run = Run::Branches(open);
                match failed {
                    Some(error) => self.drain(step, &run, path, error),
                    None => self.unless_all_done(run),
                }
            }
            Verb::Switch(cases) => {
                for (list, (when, _)) in cases.iter().enumerate() {
                    match when.as_ref().map(|when| self.holds(when)) {
                        None | Some(Ok(true)) => return self.enter_inside(&step.verb, list, path),
                        Some(Ok(false)) => {}
                        Some(Err(Impossible)) => return impossible(),
                    }
                }
                Flow::Done
            }
            Verb::Match { value, cases, other } => {
                let Ok(value) = self.value(value) else { return impossible() };
                let found = cases.iter().position(|(word, _)| *word == text_of(&value));
                match found.or_else(|| other.as_ref().map(|_| cases.len())) {
                    Some(list) => self.enter_inside(&step.verb, list, path),
                    None => Flow::Done,
                }
            }
            Verb::Each { list, .. } => match self.value(list) {
                Ok(Val::List(items)) => {
                    let slots = items.iter().map(|_| Slot::Waiting).collect();
                    self.fill(step, Elements { items, slots, next: 0 }, path)
                }
                _ => impossible(),
            },
            Verb::Repeat { .. } => self.rounds(step, 1, path),
            Verb::Wait { value, .. } => match self.value(value) {
                Ok(value) => Flow::Stay(Run::Wait(text_of(&value))),
                Err(Impossible) => impossible(),
            },
            Verb::Sleep => Flow::Stay(Run::Sleep),
            Verb::SleepUntil(until) => match self.value(until) {
                // Timers know milliseconds, and none fires too soon.
                Ok(Val::Time(at))
                    if at.div_euclid(1_000) + i64::from(at.rem_euclid(1_000) > 0)
                        > self.now / 1_000 =>
                {
                    Flow::Stay(Run::Sleep)
                }
                Ok(_) => Flow::Done,
                Err(Impossible) => impossible(),
            },
            Verb::Emit { event, data } => {
                let fields = self
                    .program
                    .events
                    .iter()
                    .find(|(name, _)| name == event)
                    .map_or(&[][..], |(_, fields)| fields);
                match Eval::new(self).fields(data, fields) {
                    Ok(data) => {
                        self.effects.push(("emit", path.to_owned(), json_of(&data)));
                        Flow::Done
                    }
                    Err(Impossible) => impossible(),
                }
            }
            Verb::Fail { error, message } => match Eval::new(self).text(message) {
                Ok(_) => Flow::Failed((*error).to_owned()),
                Err(Impossible) => impossible(),
            },
        }
    }

    pub(super) fn unless_all_done(&mut self, run: Run) -> Flow<Run> {
        match &run {
            Run::Branches(open) if open.iter().all(Option::is_none) => Flow::Done,
            _ => Flow::Stay(run),
        }
    }

    /// The first failure inside `run` stops what else is open there.
    pub(super) fn drain(
        &mut self,
        step: &'p Step,
        run: &Run,
        path: &str,
        error: String,
    ) -> Flow<Run> {
        let mut open = Vec::new();
        self.open_inside(step, run, path, &mut open);
        open.retain(|open| matches!(open.what, What::Task { .. }));
        if open.is_empty() { Flow::Failed(error) } else { Flow::Stay(Run::Drain(open, error)) }
    }

    pub(super) fn fill(&mut self, step: &'p Step, mut each: Elements, path: &str) -> Flow<Run> {
        let Verb::Each { item, concurrency, steps, yields, .. } = &step.verb else {
            return Flow::Done;
        };
        loop {
            let open = each.slots.iter().filter(|slot| matches!(slot, Slot::Open(..))).count();
            if open >= *concurrency || each.next >= each.items.len() {
                break;
            }
            let at = each.next;
            each.next += 1;
            self.frames.push(Frame::new());
            self.items.push((item.clone(), each.items[at].clone()));
            let flow = self.enter_from(steps, 0, &format!("{path}[{at}]"));
            let ended = if matches!(flow, Flow::Done) {
                self.yielded(yields.as_ref())
            } else {
                Ok(Val::Null)
            };
            self.items.pop();
            let frame = self.frames.pop().unwrap_or_default();
            each.slots[at] = match (flow, ended) {
                (Flow::Stay(seq), _) => Slot::Open(seq, frame),
                (Flow::Done, Ok(value)) => Slot::Done(value),
                (Flow::Failed(error), _) => {
                    return self.drain(step, &Run::Elements(each), path, error);
                }
                (Flow::Done, Err(Impossible)) => {
                    return self.drain(step, &Run::Elements(each), path, EXPRESSION.into());
                }
            };
        }
        if each.slots.iter().any(|slot| !matches!(slot, Slot::Done(_))) {
            return Flow::Stay(Run::Elements(each));
        }
        if yields.is_some() {
            let all = each
                .slots
                .into_iter()
                .filter_map(|slot| if let Slot::Done(value) = slot { Some(value) } else { None });
            let all = all.collect();
            self.keep(&step.id, Val::List(all));
        }
        Flow::Done
    }

    pub(super) fn yielded(&self, yields: Option<&Ex>) -> Result<Val, Impossible> {
        yields.map_or(Ok(Val::Null), |yields| self.value(yields))
    }

    pub(super) fn rounds(&mut self, step: &'p Step, mut round: usize, path: &str) -> Flow<Run> {
        let Verb::Repeat { steps, .. } = &step.verb else { return Flow::Done };
        loop {
            self.forget(steps);
            match self.enter_from(steps, 0, &format!("{path}#{round}")) {
                Flow::Stay(seq) => return Flow::Stay(Run::Round(round, Box::new(seq))),
                Flow::Failed(error) => return Flow::Failed(error),
                Flow::Done => match self.after_round(step, round) {
                    Some(flow) => return flow,
                    None => round += 1,
                },
            }
        }
    }

    /// `None`: the next round begins immediately.
    pub(super) fn after_round(&mut self, step: &'p Step, round: usize) -> Option<Flow<Run>> {
        let Verb::Repeat { until, max, every, .. } = &step.verb else { return Some(Flow::Done) };
        match self.holds(until) {
            Err(Impossible) => Some(Flow::Failed(EXPRESSION.into())),
            Ok(true) => Some(Flow::Done),
            Ok(false) if round >= *max => Some(Flow::Failed("RepeatExhausted".into())),
            Ok(false) => every.then_some(Flow::Stay(Run::Pause(round))),
        }
    }

    /// The results of a round are not the next one's.
    pub(super) fn forget(&mut self, steps: &[Step]) {
        for step in steps {
            if let Some(frame) = self.frames.last_mut() {
                frame.remove(&step.id);
            }
            inside(&step.verb).into_iter().for_each(|steps| self.forget(steps));
            step.catch.iter().for_each(|(_, steps)| self.forget(steps));
        }
    }
}
