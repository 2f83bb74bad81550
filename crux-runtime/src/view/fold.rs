//! Folds journal rows into an instance's status and the state of each step. Works from
//! the rows alone; it decides nothing, and knows nothing of the machine that wrote them.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::definition::shape::around;
use crate::journal::{Entry, EntryType, Row};
use crate::machine::{Failure, Started, Time};
use crate::store::{Seq, Status};

/// An instance as its rows up to `seq` say.
#[derive(Debug, Default)]
pub struct Fold {
    pub seq: Seq,
    pub started: Option<Started>,
    pub started_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub output: Option<Box<RawValue>>,
    pub failure: Option<Failure>,
    life: Life,
    paused: bool,
    /// Parked by the engine: nothing goes on, unlike beside a step that waits for a person.
    held: bool,
    /// The forward part is over: what has not begun will not.
    stopped: bool,
    /// In the order in which the journal first names them.
    steps: Vec<StepInstance>,
    by_path: HashMap<String, usize>,
    /// Counts entries: what came before what.
    tick: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Life {
    #[default]
    Running,
    Stopping,
    Undoing,
    Parked,
    Ended(Status),
}

/// One step of an instance; of a loop's body there are many.
#[derive(Debug)]
pub struct StepInstance {
    pub path: String,
    pub state: StepState,
    pub attempts: u32,
    pub started_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub output: Option<Box<RawValue>>,
    pub failure: Option<Failure>,
    pub waits: Option<Waits>,
    /// Known from the steps inside it, or from its end.
    is_composite: bool,
    opened: u64,
    closed: u64,
    /// Events that came for it, each with its row: it takes one immediately, or the first of those
    /// that were held.
    received: Vec<(Seq, Box<RawValue>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    Pending,
    Processing,
    /// The next attempt has a time.
    Retrying,
    /// For an event or a time.
    Waiting,
    Completed,
    Failed,
    Skipped,
    /// Was open when what is around it ended.
    Cancelled,
}

/// What an open step waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum Waits {
    Attempt { attempt: u32, since: Time, has_begun: bool },
    NextAttempt { attempt: u32, at: Time },
    Event { name: String, value: Option<String> },
    Until(Time),
}

impl StepState {
    pub fn word(self) -> &'static str {
        match self {
            StepState::Pending => "pending",
            StepState::Processing => "processing",
            StepState::Retrying => "retrying",
            StepState::Waiting => "waiting",
            StepState::Completed => "completed",
            StepState::Failed => "failed",
            StepState::Skipped => "skipped",
            StepState::Cancelled => "cancelled",
        }
    }

    fn is_open(self) -> bool {
        matches!(self, StepState::Processing | StepState::Retrying | StepState::Waiting)
    }
}

impl Fold {
    /// Takes the next row.
    pub fn row(&mut self, seq: Seq, row: Row) {
        self.seq = seq;
        let at = row.at;
        for entry in row.events.into_iter().chain(row.out) {
            self.entry(entry, at);
        }
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.life, Life::Ended(_))
    }

    pub fn is_parked(&self) -> bool {
        self.life == Life::Parked
    }

    /// Whether it is parked, and nothing at all goes on meanwhile.
    pub fn is_held(&self) -> bool {
        self.is_parked() && self.held
    }

    /// Whether the forward part is over, be it undone, parked or ended then.
    pub fn has_stopped(&self) -> bool {
        self.stopped || self.has_ended()
    }

    /// The same words by the same rules as the engine's.
    pub fn status(&self) -> Status {
        match self.life {
            Life::Ended(status) => status,
            Life::Parked => Status::Parked,
            Life::Undoing => Status::Undoing,
            Life::Stopping => Status::Processing,
            Life::Running if self.paused => Status::Paused,
            Life::Running => {
                let leaves = || self.steps.iter().filter(|step| self.is_current(step));
                let is_waiting = leaves().any(|step| step.state == StepState::Waiting);
                let is_working = leaves().any(|step| step.state != StepState::Waiting);
                if is_waiting && !is_working { Status::Waiting } else { Status::Processing }
            }
        }
    }

    pub fn step(&self, path: &str) -> Option<&StepInstance> {
        self.by_path.get(path).and_then(|at| self.steps.get(*at))
    }

    pub fn steps(&self) -> &[StepInstance] {
        &self.steps
    }

    /// The step's state, in view of what has ended around it.
    pub fn state_of(&self, step: &StepInstance) -> StepState {
        if step.state.is_open() && (self.has_ended() || self.has_ended_around(step)) {
            StepState::Cancelled
        } else {
            step.state
        }
    }

    /// Whether a step around it ended after it began. The steps of a `catch` stand inside the step
    /// that failed, and begin after it.
    pub fn has_ended_around(&self, step: &StepInstance) -> bool {
        around(&step.path)
            .filter_map(|path| self.step(path))
            .any(|outer| outer.closed > step.opened)
    }

    /// Whether the step itself is doing something.
    pub fn is_current(&self, step: &StepInstance) -> bool {
        // A loop between two rounds waits itself.
        let is_leaf = !step.is_composite || step.state == StepState::Waiting;
        is_leaf && self.state_of(step).is_open()
    }

    /// Whether the step has ended, with everything that may follow inside it: its `catch`, or the
    /// steps that stand under a task.
    pub fn is_over(&self, step: &StepInstance) -> bool {
        let is_inside = |other: &&StepInstance| {
            other
                .path
                .strip_prefix(&step.path)
                .is_some_and(|rest| rest.starts_with(['/', '[', '#']))
        };
        let goes_on = || self.steps.iter().filter(is_inside).any(|inner| self.is_current(inner));
        step.ended_at.is_some() && !self.is_parked() && !goes_on()
    }

    fn entry(&mut self, entry: Entry, at: Time) {
        self.tick += 1;
        match entry.kind {
            EntryType::Started => {
                self.started = entry.started;
                self.started_at = Some(at);
            }
            EntryType::WorkflowStopping => {
                self.life = Life::Stopping;
                self.stopped = true;
                self.failure = entry.error;
                self.paused = false;
            }
            EntryType::WorkflowUndoing => {
                self.life = Life::Undoing;
                self.stopped = true;
            }
            EntryType::WorkflowParked => {
                self.life = Life::Parked;
                self.failure = entry.error;
            }
            EntryType::WorkflowPaused => self.paused = true,
            EntryType::WorkflowResumed => {
                self.paused = false;
                self.stopped = false;
                self.held = false;
                self.life = Life::Running;
                self.failure = None;
                self.ended_at = None;
            }
            EntryType::WorkflowCompleted => {
                self.end(Status::Completed, None, at);
                self.output = entry.output;
            }
            EntryType::WorkflowFailed => self.end(Status::Failed, entry.error, at),
            EntryType::WorkflowCancelled => self.end(Status::Cancelled, entry.error, at),
            // Requests; other entries show their effect.
            EntryType::StopRequested
            | EntryType::PauseRequested
            | EntryType::ResumeRequested
            | EntryType::RetryRequested
            | EntryType::UndoRequested
            | EntryType::FailRequested => {}
            EntryType::ParkRequested => self.held = true,
            _ => self.step_entry(entry, at),
        }
    }

    fn end(&mut self, status: Status, failure: Option<Failure>, at: Time) {
        self.life = Life::Ended(status);
        self.ended_at = Some(at);
        self.failure = failure;
    }

    fn step_entry(&mut self, entry: Entry, at: Time) {
        let Some(path) = entry.path.as_deref() else { return };
        self.touch_around(path, at);
        let (tick, seq) = (self.tick, self.seq);
        let step = self.touch(path);
        let (was_open, was_closed) = (step.state.is_open(), step.ended_at.is_some());
        match entry.kind {
            EntryType::StepStarted => {
                let attempt = entry.attempt.unwrap_or(1);
                step.attempts = step.attempts.max(attempt);
                step.open(
                    StepState::Processing,
                    Some(Waits::Attempt { attempt, since: at, has_begun: false }),
                    at,
                );
            }
            EntryType::StepBegan => {
                let attempt = entry.attempt.unwrap_or(step.attempts);
                step.open(
                    StepState::Processing,
                    Some(Waits::Attempt { attempt, since: at, has_begun: true }),
                    at,
                );
            }
            EntryType::StepWaiting => {
                let waits = match (entry.until, entry.event) {
                    (Some(until), _) => Some(Waits::Until(until)),
                    (None, Some(name)) => Some(Waits::Event { name, value: entry.value }),
                    (None, None) => None,
                };
                step.open(StepState::Waiting, waits, at);
            }
            EntryType::StepCompleted => {
                step.close(StepState::Completed, at);
                step.output = entry.result;
                step.failure = None;
            }
            EntryType::StepDone => {
                step.close(StepState::Completed, at);
                let mut received = std::mem::take(&mut step.received);
                if !received.is_empty() {
                    let taken = received.iter().position(|(row, _)| *row == seq).unwrap_or(0);
                    step.output = Some(received.swap_remove(taken).1);
                }
            }
            EntryType::StepSkipped => step.close(StepState::Skipped, at),
            EntryType::StepFailed => {
                step.failure = entry.error;
                match (entry.attempt, entry.next) {
                    (Some(attempt), Some(next)) => step.again(attempt + 1, next),
                    _ => step.close(StepState::Failed, at),
                }
            }
            EntryType::TaskLost | EntryType::TaskReturned => {
                if let (Some(attempt), Some(next)) = (entry.attempt, entry.next) {
                    step.again(attempt, next);
                }
            }
            EntryType::EventReceived => step.received.extend(entry.data.map(|data| (seq, data))),
            _ => {}
        }
        if step.state.is_open() && !was_open {
            step.opened = tick;
        }
        if step.ended_at.is_some() && !was_closed {
            step.closed = tick;
        }
    }

    /// Composite steps have no beginning in the journal: they are open when something
    /// inside them moves.
    fn touch_around(&mut self, path: &str, at: Time) {
        let tick = self.tick;
        for outer in around(path) {
            let outer = self.touch(outer);
            outer.is_composite = true;
            if matches!(outer.state, StepState::Pending | StepState::Waiting) {
                outer.open(StepState::Processing, None, at);
                outer.opened = tick;
            }
        }
    }

    fn touch(&mut self, path: &str) -> &mut StepInstance {
        let at = match self.by_path.get(path) {
            Some(at) => *at,
            None => {
                self.by_path.insert(path.to_owned(), self.steps.len());
                self.steps.push(StepInstance::new(path));
                self.steps.len() - 1
            }
        };
        &mut self.steps[at]
    }
}

impl StepInstance {
    fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            state: StepState::Pending,
            attempts: 0,
            started_at: None,
            ended_at: None,
            output: None,
            failure: None,
            waits: None,
            is_composite: false,
            opened: 0,
            closed: 0,
            received: Vec::new(),
        }
    }

    fn open(&mut self, state: StepState, waits: Option<Waits>, at: Time) {
        self.state = state;
        self.waits = waits;
        self.started_at.get_or_insert(at);
        self.ended_at = None;
    }

    fn again(&mut self, attempt: u32, at: Time) {
        self.state = StepState::Retrying;
        self.waits = Some(Waits::NextAttempt { attempt, at });
    }

    fn close(&mut self, state: StepState, at: Time) {
        self.state = state;
        self.waits = None;
        self.ended_at = Some(at);
    }
}
