//! What an instance of a program does: a plain interpreter that walks over the steps with every
//! event. `enter` begins steps, `offer` gives events to those that are open, `show` says which are.

mod enter;
mod offer;
mod show;

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::model::{Eval, Impossible, Reads, json_of, text_of};
use super::program::{Ex, Fields, Program, Retry, Root, Sink, Step, Task, Ty, Val, Verb};

/// Results of steps, by id.
type Frame = BTreeMap<String, Val>;

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Task {
        returns: Fields,
        raises: bool,
        is_undo: bool,
        attempt: u32,
    },
    /// A task between two attempts; what the one before was still reports is taken.
    BackOff {
        returns: Fields,
    },
    /// The timeout of a step with steps inside.
    Timeout,
    /// A task that is used up, where such wait for a person; nothing is offered to it.
    Person,
    Wait {
        event: String,
        value: String,
        fields: Fields,
        is_timed: bool,
    },
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

/// What is asked of the world: `dispatch`, `emit` or `hook`, where, and with what.
pub type Effect = (&'static str, String, Json);

/// A task that was begun and has an undo: what that reads, as it was then.
struct Begun<'p> {
    path: String,
    id: String,
    with: &'p [(String, Ex)],
    frames: Vec<Frame>,
    items: Vec<(String, Val)>,
    errors: Vec<String>,
    has_completed: bool,
    retry: Option<&'p Retry>,
}

/// The running undo.
struct Undoing<'p> {
    failure: String,
    attempts: Attempts,
    retry: Option<&'p Retry>,
}

/// The attempts of one task.
#[derive(Debug)]
struct Attempts {
    path: String,
    number: u32,
    is_backing_off: bool,
    input: Json,
    key: Option<String>,
}

pub struct Life<'p> {
    /// In the order in which they were begun.
    begun: Vec<Begun<'p>>,
    /// Once what was begun is undone.
    undoing: Option<Undoing<'p>>,
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
    outcome: Outcome,
}

#[derive(Debug)]
struct Seq {
    at: usize,
    run: Run,
}

#[derive(Debug)]
enum Run {
    Task(Attempts),
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

#[derive(Debug, PartialEq)]
enum Attempted {
    Open,
    Completed,
    Failed,
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
        life.hook("on_start");
        let flow = life.enter_from(&program.steps, 0, "");
        life.settle(flow);
        life
    }

    fn settle(&mut self, flow: Flow<Seq>) {
        match flow {
            Flow::Stay(seq) => {
                self.root = Some(seq);
                let exhausted = self.exhausted.take().filter(|_| !self.program.parks);
                if let Some(error) = exhausted {
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
                self.hook("on_complete");
                let none = self.program.output.is_empty();
                self.outcome =
                    Outcome::Completed(if none { Json::Null } else { json_of(&Val::Rec(fields)) });
            }
            Flow::Failed(_) if self.program.parks => self.outcome = Outcome::Parked,
            Flow::Failed(error) => {
                self.root = None;
                self.undo_next(error);
            }
        }
    }

    fn hook(&mut self, name: &'static str) {
        if self.program.hooks.contains(&name) {
            self.effects.push(("hook", name.to_owned(), Json::Null));
        }
    }

    /// The newest of what was done and is not undone yet.
    fn undo_next(&mut self, error: String) {
        self.stopping = None;
        self.begun.retain(|begun| begun.has_completed);
        let Some(begun) = self.begun.pop() else {
            self.undoing = None;
            self.hook("on_failure");
            self.outcome = Outcome::Failed(error);
            return;
        };
        (self.frames, self.items, self.errors) = (begun.frames, begun.items, begun.errors);
        let with = begun
            .with
            .iter()
            .map(|(name, ex)| (name.clone(), self.value(ex).unwrap_or(Val::Null)))
            .collect();
        let attempts = Attempts {
            path: format!("{}/undo", begun.path),
            number: 1,
            is_backing_off: false,
            input: json_of(&Val::Rec(with)),
            key: None,
        };
        self.send(&attempts);
        self.undoing = Some(Undoing { failure: error, attempts, retry: begun.retry });
    }

    fn offer_undo(&mut self, mut undoing: Undoing<'p>, happened: &Happened) {
        match self.attempted(&mut undoing.attempts, undoing.retry, happened) {
            Attempted::Open => self.undoing = Some(undoing),
            Attempted::Completed => self.undo_next(undoing.failure),
            // Nothing catches that: a person decides.
            Attempted::Failed => self.outcome = Outcome::Parked,
        }
    }

    fn send(&mut self, attempts: &Attempts) {
        self.effects.push(("dispatch", attempts.path.clone(), attempts.input.clone()));
        if let Some(key) = &attempts.key {
            self.effects.push(("key", attempts.path.clone(), Json::String(key.clone())));
        }
    }

    /// What an event makes of a task's attempts.
    fn attempted(
        &mut self,
        attempts: &mut Attempts,
        retry: Option<&Retry>,
        happened: &Happened,
    ) -> Attempted {
        match happened {
            Happened::Completed(_) => return Attempted::Completed,
            Happened::Failed(error) => {
                let Some(retry) = retry.filter(|retry| retry.repeats(attempts.number, error))
                else {
                    return Attempted::Failed;
                };
                attempts.number += 1;
                attempts.is_backing_off = !retry.is_instant;
            }
            _ => attempts.is_backing_off = false,
        }
        if !attempts.is_backing_off {
            self.send(attempts);
        }
        Attempted::Open
    }

    /// What a task's end means for its undo.
    fn ended(&mut self, path: &str, happened: &Happened) {
        let Some(at) = self.begun.iter().position(|begun| begun.path == path) else { return };
        match happened {
            Happened::Completed(result) => {
                let begun = &mut self.begun[at];
                begun.has_completed = true;
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
        if let Some(undoing) = self.undoing.take() {
            let taken = undoing.attempts.path == path;
            if taken {
                self.offer_undo(undoing, happened);
            } else {
                self.undoing = Some(undoing);
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
}
