//! What an instance of a program does: a plain interpreter that walks over the steps with every
//! event.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::model::{Eval, Impossible, Reads, json_of, text_of};
use super::program::{Ex, Fields, Program, Root, Sink, Step, Task, Ty, Val, Verb};
use super::steps::inside;

/// Results of steps, by id.
type Frame = BTreeMap<String, Val>;

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Task { returns: Fields, raises: bool, is_undo: bool },
    Wait { event: String, value: String, fields: Fields, is_timed: bool },
    Sleep,
}

/// Something that an instance waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    pub path: String,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    Completed(Val),
    Failed(&'static str),
    Received(Val),
    Fired,
    TimedOut,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Running,
    Completed(Json),
    Failed(String),
    Parked,
}

/// What is asked of the world: `dispatch` or `emit`, where, and with what.
pub type Effect = (&'static str, String, Json);

/// A task that was begun and has an undo: what that reads, as it was then.
struct Begun<'p> {
    path: String,
    id: String,
    with: &'p [(String, Ex)],
    frames: Vec<Frame>,
    items: Vec<(String, Val)>,
    errors: Vec<String>,
}

pub struct Life<'p> {
    /// In the order in which they were begun.
    begun: Vec<Begun<'p>>,
    /// The failure, once what was begun is undone; and the undo under way.
    undoing: Option<(String, String)>,
    program: &'p Program,
    input: Val,
    pub now: i64,
    root: Option<Seq>,
    frames: Vec<Frame>,
    items: Vec<(String, Val)>,
    errors: Vec<String>,
    event: Option<Val>,
    /// What the catches around the step at hand take.
    catches: Vec<Vec<Option<&'static str>>>,
    /// A task that failed and that nothing catches.
    exhausted: Option<String>,
    /// From then on: the tasks that must still end.
    stopping: Option<(String, Vec<Open>)>,
    pub effects: Vec<Effect>,
    pub outcome: Outcome,
}

#[derive(Debug)]
struct Seq {
    at: usize,
    run: Run,
}

#[derive(Debug)]
enum Run {
    Task,
    /// Failed, and nothing catches it.
    Exhausted,
    Wait(String),
    Sleep,
    /// Of a step with steps: in which list of them.
    Inside(usize, Box<Seq>),
    Branches(Vec<Option<Seq>>),
    Elements(Elements),
    Round(usize, Box<Seq>),
    Pause(usize),
    Catch(usize, String, Box<Seq>),
    Drain(Vec<Open>, String),
}

#[derive(Debug)]
struct Elements {
    items: Vec<Val>,
    slots: Vec<Slot>,
    next: usize,
}

#[derive(Debug)]
enum Slot {
    Waiting,
    Open(Seq, Frame),
    Done(Val),
}

#[derive(Debug)]
enum Flow<T> {
    Stay(T),
    Done,
    Failed(String),
}

/// What an event makes of something that is changed in place.
#[derive(Debug, PartialEq)]
enum Offered {
    Refused,
    Stays,
    Done,
    Failed(String),
}

const EXPRESSION: &str = "ExpressionError";

fn join(prefix: &str, id: &str) -> String {
    if prefix.is_empty() { id.to_owned() } else { format!("{prefix}/{id}") }
}

impl Reads for Life<'_> {
    fn root(&self, root: &Root) -> Val {
        match root {
            Root::Input => self.input.clone(),
            Root::Step(id) => self
                .frames
                .iter()
                .rev()
                .find_map(|frame| frame.get(id).cloned())
                .unwrap_or(Val::Null),
            Root::Item(name) => self
                .items
                .iter()
                .rev()
                .find(|(item, _)| item == name)
                .map_or(Val::Null, |(_, value)| value.clone()),
            Root::Event => self.event.clone().unwrap_or(Val::Null),
            Root::Error => {
                let name = self.errors.last().cloned().unwrap_or_default();
                Val::Rec(vec![("name".into(), Val::Str(name))])
            }
            Root::InstanceId => Val::Str("i1".into()),
            Root::RequestId => Val::Str("r1".into()),
            Root::Region => Val::Str("eu".into()),
            Root::StartedAt => Val::Time(1_000_000),
        }
    }

    fn now(&self) -> i64 {
        self.now
    }
}

impl<'p> Life<'p> {
    /// Starts at second 1.
    pub fn start(program: &'p Program, input: Val) -> Self {
        let mut life = Self {
            begun: Vec::new(),
            undoing: None,
            program,
            input,
            now: 1_000_000,
            root: None,
            frames: vec![Frame::new()],
            items: Vec::new(),
            errors: Vec::new(),
            event: None,
            catches: Vec::new(),
            exhausted: None,
            stopping: None,
            effects: Vec::new(),
            outcome: Outcome::Running,
        };
        let flow = life.enter_from(&program.steps, 0, "");
        life.settle(flow);
        life
    }

    fn settle(&mut self, flow: Flow<Seq>) {
        match flow {
            Flow::Stay(seq) => {
                self.root = Some(seq);
                if let Some(error) = self.exhausted.take() {
                    let tasks = self
                        .open()
                        .into_iter()
                        .filter(|open| matches!(open.what, What::Task { .. }))
                        .collect();
                    self.stopping = Some((error, tasks));
                    self.stop_further();
                }
            }
            Flow::Done => {
                self.root = None;
                let mut fields = Vec::new();
                for (name, sink) in &self.program.output {
                    let value = match sink {
                        Sink::Ex(ex) => self.value(ex),
                        sink => Eval::new(self).sink(sink, &Ty::Str),
                    };
                    match value {
                        Ok(value) => fields.push((name.clone(), value)),
                        Err(Impossible) => {
                            self.outcome = Outcome::Parked;
                            return;
                        }
                    }
                }
                let none = self.program.output.is_empty();
                self.outcome =
                    Outcome::Completed(if none { Json::Null } else { json_of(&Val::Rec(fields)) });
            }
            Flow::Failed(error) => {
                self.root = None;
                self.undo_next(error);
            }
        }
    }

    /// The newest of what was begun and is not undone yet.
    fn undo_next(&mut self, error: String) {
        self.stopping = None;
        let Some(begun) = self.begun.pop() else {
            self.undoing = None;
            self.outcome = Outcome::Failed(error);
            return;
        };
        (self.frames, self.items, self.errors) = (begun.frames, begun.items, begun.errors);
        let with = begun
            .with
            .iter()
            .map(|(name, ex)| (name.clone(), self.value(ex).unwrap_or(Val::Null)))
            .collect();
        let path = format!("{}/undo", begun.path);
        self.effects.push(("dispatch", path.clone(), json_of(&Val::Rec(with))));
        self.undoing = Some((error, path));
    }

    /// What a task's end means for its undo.
    fn ended(&mut self, path: &str, happened: &Happened) {
        let Some(at) = self.begun.iter().position(|begun| begun.path == path) else { return };
        match happened {
            Happened::Completed(result) => {
                let begun = &mut self.begun[at];
                let id = begun.id.clone();
                if let (Some(frame), Val::Rec(fields)) = (begun.frames.last_mut(), result)
                    && !fields.is_empty()
                {
                    frame.insert(id, result.clone());
                }
            }
            // A service that says that it failed has done nothing.
            _ => drop(self.begun.remove(at)),
        }
    }

    fn stop_further(&mut self) {
        if let Some((error, tasks)) = &self.stopping
            && tasks.is_empty()
        {
            let error = error.clone();
            self.undo_next(error);
        }
    }

    /// Offers an event; false: it is refused.
    pub fn offer(&mut self, path: &str, happened: &Happened) -> bool {
        self.effects.clear();
        if let Some((error, at)) = &self.undoing {
            let (error, taken) = (error.clone(), at == path);
            if taken {
                self.undo_next(error);
            }
            return taken;
        }
        if let Some((_, tasks)) = &mut self.stopping {
            let before = tasks.len();
            tasks.retain(|task| task.path != path);
            let taken = tasks.len() < before;
            if taken {
                self.ended(path, happened);
            }
            self.stop_further();
            return taken;
        }
        let Some(mut root) = self.root.take() else { return false };
        let program = self.program;
        let flow = match self.offer_seq(&program.steps, &mut root, "", path, happened) {
            Offered::Refused => {
                self.root = Some(root);
                return false;
            }
            Offered::Stays => Flow::Stay(root),
            Offered::Done => Flow::Done,
            Offered::Failed(error) => Flow::Failed(error),
        };
        self.settle(flow);
        true
    }

    fn value(&self, ex: &Ex) -> Result<Val, Impossible> {
        Eval::new(self).value(ex)
    }

    fn holds(&self, ex: &Ex) -> Result<bool, Impossible> {
        Ok(self.value(ex)? == Val::Bool(true))
    }

    fn keep(&mut self, id: &str, value: Val) {
        if let Some(frame) = self.frames.last_mut() {
            frame.insert(id.to_owned(), value);
        }
    }

    fn is_caught(&self, error: &str) -> bool {
        self.catches.iter().flatten().any(|taken| taken.is_none_or(|taken| taken == error))
    }

    /// Steps from the one at `at` on.
    fn enter_from(&mut self, steps: &'p [Step], at: usize, prefix: &str) -> Flow<Seq> {
        for (at, step) in steps.iter().enumerate().skip(at) {
            match self.enter(step, prefix) {
                Flow::Stay(run) => return Flow::Stay(Seq { at, run }),
                Flow::Failed(error) => return Flow::Failed(error),
                Flow::Done => {}
            }
        }
        Flow::Done
    }

    fn enter(&mut self, step: &'p Step, prefix: &str) -> Flow<Run> {
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

    fn caught(&mut self, step: &'p Step, path: &str, error: String) -> Flow<Run> {
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

    fn dispatch(&mut self, task: &'p Task, id: &str, path: &str) -> Flow<Run> {
        let mut eval = Eval::new(self);
        let made = eval.fields(&task.with, &task.takes).and_then(|input| {
            let key = task.key.as_ref().map(|key| eval.text(key));
            Ok((input, key.transpose()?))
        });
        match made {
            Ok((input, key)) => {
                self.effects.push(("dispatch", path.to_owned(), json_of(&input)));
                if let Some(key) = key {
                    self.effects.push(("key", path.to_owned(), Json::String(key)));
                }
                if let Some(with) = &task.undo {
                    let (path, id) = (path.to_owned(), id.to_owned());
                    let (frames, items, errors) =
                        (self.frames.clone(), self.items.clone(), self.errors.clone());
                    self.begun.push(Begun { path, id, with, frames, items, errors });
                }
                Flow::Stay(Run::Task)
            }
            Err(Impossible) if self.is_caught(EXPRESSION) => Flow::Failed(EXPRESSION.into()),
            Err(Impossible) => {
                self.exhausted = Some(EXPRESSION.into());
                Flow::Stay(Run::Exhausted)
            }
        }
    }

    fn enter_inside(&mut self, verb: &'p Verb, list: usize, path: &str) -> Flow<Run> {
        let steps = inside(verb)[list];
        match self.enter_from(steps, 0, path) {
            Flow::Stay(seq) => Flow::Stay(Run::Inside(list, Box::new(seq))),
            Flow::Done => Flow::Done,
            Flow::Failed(error) => Flow::Failed(error),
        }
    }

    fn enter_verb(&mut self, step: &'p Step, path: &str) -> Flow<Run> {
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

    fn unless_all_done(&mut self, run: Run) -> Flow<Run> {
        match &run {
            Run::Branches(open) if open.iter().all(Option::is_none) => Flow::Done,
            _ => Flow::Stay(run),
        }
    }

    /// The first failure inside `run` stops what else is open there.
    fn drain(&mut self, step: &'p Step, run: &Run, path: &str, error: String) -> Flow<Run> {
        let mut open = Vec::new();
        self.open_inside(step, run, path, &mut open);
        open.retain(|open| matches!(open.what, What::Task { .. }));
        if open.is_empty() { Flow::Failed(error) } else { Flow::Stay(Run::Drain(open, error)) }
    }

    fn fill(&mut self, step: &'p Step, mut each: Elements, path: &str) -> Flow<Run> {
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

    fn yielded(&self, yields: Option<&Ex>) -> Result<Val, Impossible> {
        yields.map_or(Ok(Val::Null), |yields| self.value(yields))
    }

    fn rounds(&mut self, step: &'p Step, mut round: usize, path: &str) -> Flow<Run> {
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

    /// `None`: the next round begins at once.
    fn after_round(&mut self, step: &'p Step, round: usize) -> Option<Flow<Run>> {
        let Verb::Repeat { until, max, every, .. } = &step.verb else { return Some(Flow::Done) };
        match self.holds(until) {
            Err(Impossible) => Some(Flow::Failed(EXPRESSION.into())),
            Ok(true) => Some(Flow::Done),
            Ok(false) if round >= *max => Some(Flow::Failed("RepeatExhausted".into())),
            Ok(false) => every.then_some(Flow::Stay(Run::Pause(round))),
        }
    }

    /// The results of a round are not the next one's.
    fn forget(&mut self, steps: &[Step]) {
        for step in steps {
            if let Some(frame) = self.frames.last_mut() {
                frame.remove(&step.id);
            }
            inside(&step.verb).into_iter().for_each(|steps| self.forget(steps));
            step.catch.iter().for_each(|(_, steps)| self.forget(steps));
        }
    }

    fn offer_seq(
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

    fn offer_step(
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
    fn placed(&mut self, run: &mut Run, flow: impl FnOnce(&mut Self) -> Flow<Run>) -> Offered {
        match flow(self) {
            Flow::Stay(next) => {
                *run = next;
                Offered::Stays
            }
            Flow::Done => Offered::Done,
            Flow::Failed(error) => Offered::Failed(error),
        }
    }

    fn offer_verb(
        &mut self,
        step: &'p Step,
        run: &mut Run,
        path: &str,
        at: &str,
        happened: &Happened,
    ) -> Offered {
        match run {
            Run::Task if path == at => match (self.ended(path, happened), happened).1 {
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
    fn offer_element(
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

    fn open_seq(&self, steps: &[Step], seq: &Seq, prefix: &str, all: &mut Vec<Open>) {
        let step = &steps[seq.at];
        self.open_inside(step, &seq.run, &join(prefix, &step.id), all);
    }

    fn open_inside(&self, step: &Step, run: &Run, path: &str, all: &mut Vec<Open>) {
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
