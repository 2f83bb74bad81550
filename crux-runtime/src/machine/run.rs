//! The life of an instance around the state of its machine: pause, stop, undo, park, retry and the end, the same for every workflow.
//!
//! While an instance is paused, parked or stopping it is *frozen*: results and events that arrive are journalled and held, and the
//! machine's state does not move. On resume or retry what was held is applied, in order, as of that moment. So nothing that happened is
//! lost, nothing new starts, and the machine itself never hears of any of this.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::definition::{Definition, OnExhausted};
use super::effect::{Effect, Effects, Ended, Hook, Note};
use super::event::{Cause, Event, Outcome, Started, StepEvent, StepHappened, Timer};
use super::flow::{Applied, Flow, Refused, Why};
use super::fx::{Env, Exhausted, Fx};
use super::instance::{Instance, Phase};
use super::part::{Open, Part};
use super::task::{Attempt, AttemptFailed, TaskFlow, TaskState};
use super::undo::{Undo, UndoStack};
use super::{Failure, Path, Time, json};

/// A workflow's generated machine.
pub trait Machine: Send + 'static {
    const DEFINITION: &'static Definition;
    type Input: serde::de::DeserializeOwned;
    /// The root scope.
    type State: Part + Send + 'static;
    type Output: Serialize;
    type Undo: Undo;

    fn start(input: Self::Input, fx: &mut Fx<'_, Self::Undo>) -> Flow<Self::State, Self::Output>;

    fn apply(state: Self::State, event: &StepEvent, fx: &mut Fx<'_, Self::Undo>) -> Applied<Self::State, Self::Output>;
}

/// An instance of the workflow `M`.
pub struct Run<M: Machine> {
    env: Env,
    /// `None` once it has ended, or failed in a way that leaves nothing to go on from.
    state: Option<M::State>,
    life: Life,
    paused: bool,
    undo: UndoStack<M::Undo>,
    /// Accepted while frozen, not yet applied to the state.
    held: Vec<StepEvent>,
    /// Tasks that wait for a person, and why.
    exhausted: Vec<Exhausted>,
    /// Events that it has taken, by wait: each wait gets one once, also when a later round of a `repeat` waits for the same again.
    received: BTreeSet<(Path, String)>,
}

#[derive(Debug)]
enum Life {
    Running,
    Stopping {
        cause: Cause,
        failure: Failure,
    },
    Undoing {
        cause: Cause,
        failure: Failure,
        task: Box<TaskState>,
    },
    /// Nothing undone. `undoing`: parked because this undo failed.
    Parked {
        failure: Failure,
        undoing: Option<(Cause, Box<TaskState>)>,
    },
    Completed,
    Failed {
        failure: Failure,
    },
    Cancelled {
        failure: Failure,
    },
}

impl<M: Machine> Run<M> {
    /// A new instance by its first event. The error: the input is not of the workflow's type.
    pub fn start(id: &str, started: &Started, now: Time, out: &mut Effects) -> Result<Self, String> {
        let input: M::Input = json::decode(&started.input)?;
        let env = Env {
            id: id.to_owned(),
            request_id: started.request_id.clone(),
            started_at: now,
            config: started.config.clone(),
            input: Arc::from(started.input.clone()),
        };
        let mut run = Self {
            env,
            state: None,
            life: Life::Running,
            paused: false,
            undo: UndoStack::new(),
            held: Vec::new(),
            exhausted: Vec::new(),
            received: BTreeSet::new(),
        };
        if let Some(routing_key) = M::DEFINITION.hooks.on_start {
            out.all.push(Effect::Hook { kind: Hook::Start, routing_key });
        }
        let mut exhausted = None;
        let flow = M::start(input, &mut run.fx(now, out, &mut exhausted).1);
        run.settle(flow, exhausted, now, out);
        Ok(run)
    }

    /// The surroundings of one step of the machine, and the state beside them.
    fn fx<'a>(
        &'a mut self,
        now: Time,
        out: &'a mut Effects,
        exhausted: &'a mut Option<Exhausted>,
    ) -> (&'a mut Option<M::State>, Fx<'a, M::Undo>) {
        let fx = Fx { definition: M::DEFINITION, env: &self.env, now, at: Default::default(), out, undo: &mut self.undo, exhausted };
        (&mut self.state, fx)
    }

    fn is_frozen(&self) -> bool {
        self.paused || !matches!(self.life, Life::Running)
    }

    fn step(&mut self, event: &StepEvent, now: Time, out: &mut Effects) -> Result<(), Why> {
        if let StepHappened::Received { event_id, .. } = &event.what {
            let taken = (M::DEFINITION.across_rounds(&event.path), event_id.clone());
            if self.received.contains(&taken) {
                return Err(Why::NotNow("the step has taken that event already"));
            }
            self.step_any(event, now, out)?;
            self.received.insert(taken);
            return Ok(());
        }
        self.step_any(event, now, out)
    }

    fn step_any(&mut self, event: &StepEvent, now: Time, out: &mut Effects) -> Result<(), Why> {
        if let Life::Undoing { task, .. } = &self.life
            && task.path == event.path
        {
            return self.step_undo(event, now, out);
        }
        match self.life {
            // A failed instance keeps its state for a retry; until then it has ended like any other.
            Life::Completed | Life::Failed { .. } | Life::Cancelled { .. } => Err(Why::NotNow("the instance has ended")),
            _ if self.is_frozen() => self.hold(event, now, out),
            _ => self.advance(event, now, out),
        }
    }

    /// Moves the machine's state.
    fn advance(&mut self, event: &StepEvent, now: Time, out: &mut Effects) -> Result<(), Why> {
        let mut exhausted = None;
        let (slot, mut fx) = self.fx(now, out, &mut exhausted);
        let Some(state) = slot.take() else { return Err(Why::NotOpen) };
        let mark = fx.out.mark();
        match M::apply(state, event, &mut fx) {
            Err(Refused(state, why)) => {
                debug_assert!(fx.out.is_at(mark), "a refused event wrote effects");
                *slot = Some(state);
                Err(why)
            }
            Ok(flow) => {
                if matches!(event.what, StepHappened::Completed { .. }) {
                    self.exhausted.retain(|waiting| waiting.path != event.path);
                }
                self.settle(flow, exhausted, now, out);
                Ok(())
            }
        }
    }

    /// After the machine has moved.
    fn settle(&mut self, flow: Flow<M::State, M::Output>, exhausted: Option<Exhausted>, now: Time, out: &mut Effects) {
        match flow {
            Flow::Stay(state) => {
                self.state = Some(state);
                if let Some(exhausted) = exhausted {
                    let failure = exhausted.failure.clone();
                    self.exhausted.push(exhausted);
                    self.fail(failure, now, out);
                } else if let Some(waiting) = self.exhausted.first()
                    && !self.has_open()
                {
                    let failure = waiting.failure.clone();
                    self.fail(failure, now, out);
                }
            }
            Flow::Done(output) => match json::encode(&output) {
                Ok(output) => {
                    self.life = Life::Completed;
                    if let Some(routing_key) = M::DEFINITION.hooks.on_complete {
                        out.all.push(Effect::Hook { kind: Hook::Complete, routing_key });
                    }
                    out.notes.push(Note::Ended(Ended::Completed { output }));
                }
                Err(failure) => self.park(failure, None, out),
            },
            // An output that cannot be computed undoes nothing: every step has completed.
            Flow::Failed(failure) if failure.name == OUTPUT_FAILED => self.park(failure, None, out),
            Flow::Failed(failure) => self.fail(failure, now, out),
        }
    }

    /// Whether anything but exhausted tasks is open.
    fn has_open(&self) -> bool {
        let mut any = false;
        if let Some(state) = &self.state {
            state.open(&mut |open| any |= !matches!(open, Open::Task(task) if matches!(task.attempt, Attempt::Exhausted(_))));
        }
        any
    }

    /// The forward part has failed and nothing took it.
    fn fail(&mut self, failure: Failure, now: Time, out: &mut Effects) {
        match M::DEFINITION.on_exhausted {
            OnExhausted::Park => self.park(failure, None, out),
            OnExhausted::Undo => self.stop(Cause::Failed, failure, now, out),
        }
    }

    fn park(&mut self, failure: Failure, undoing: Option<(Cause, Box<TaskState>)>, out: &mut Effects) {
        out.notes.push(Note::Parked { failure: failure.clone() });
        self.life = Life::Parked { failure, undoing };
    }

    /// From now on nothing new starts; when what is under way has ended, undo, then end.
    fn stop(&mut self, cause: Cause, failure: Failure, now: Time, out: &mut Effects) {
        if let Some(state) = &self.state {
            state.open(&mut |open| match open {
                Open::Task(task) if task.attempt == Attempt::Sent && !is_held(&self.held, &task.path) => {
                    out.all.push(Effect::Cancel { path: task.path });
                }
                Open::Wait { path, event, value, .. } => {
                    out.all.push(Effect::Unsubscribe { path, event, value: value.map(str::to_owned) });
                }
                Open::Task(_) | Open::Timer { .. } => {}
            });
        }
        out.notes.push(Note::Stopping { failure: failure.clone() });
        self.life = Life::Stopping { cause, failure };
        self.paused = false;
        self.stop_further(now, out);
    }

    /// Goes on to undo when no attempt is under way any more.
    fn stop_further(&mut self, now: Time, out: &mut Effects) {
        let mut under_way = false;
        self.open(&mut |open| under_way |= matches!(open, Open::Task(_)));
        if under_way {
            return;
        }
        if let Life::Stopping { cause, failure } = std::mem::replace(&mut self.life, Life::Running) {
            self.undo.settle();
            if !self.undo.is_empty() {
                // From here there is no way back into the forward part.
                self.state = None;
                self.held.clear();
                out.notes.push(Note::Undoing);
            }
            self.undo_next(cause, failure, now, out);
        }
    }

    fn undo_next(&mut self, cause: Cause, failure: Failure, now: Time, out: &mut Effects) {
        let Some(entry) = self.undo.newest() else { return self.end(cause, failure, out) };
        let (node, input) = entry.value.input(&self.env, now);
        let path = Path { node, at: entry.path.at };
        let mut exhausted = None;
        let (_, mut fx) = self.fx(now, out, &mut exhausted);
        match input {
            Ok(input) => {
                let task = TaskState::start(path, input, None, &mut fx);
                self.life = Life::Undoing { cause, failure, task: Box::new(task) };
            }
            Err(cannot) => {
                let task = TaskState::stillborn(path, cannot.clone(), &mut fx);
                self.park(cannot, Some((cause, Box::new(task))), out);
            }
        }
    }

    fn end(&mut self, cause: Cause, failure: Failure, out: &mut Effects) {
        if let Some(routing_key) = M::DEFINITION.hooks.on_failure {
            out.all.push(Effect::Hook { kind: Hook::Failure, routing_key });
        }
        self.life = match cause {
            Cause::Failed | Cause::Deadline => {
                out.notes.push(Note::Ended(Ended::Failed { failure: failure.clone() }));
                Life::Failed { failure }
            }
            Cause::Cancelled => {
                out.notes.push(Note::Ended(Ended::Cancelled { failure: failure.clone() }));
                Life::Cancelled { failure }
            }
        };
    }

    /// An event for the undo that is under way.
    fn step_undo(&mut self, event: &StepEvent, now: Time, out: &mut Effects) -> Result<(), Why> {
        let meta = M::DEFINITION.task(event.path.node).ok_or(Why::NotOpen)?;
        let Life::Undoing { cause, failure, mut task } = std::mem::replace(&mut self.life, Life::Running) else { return Err(Why::NotOpen) };
        if let Err(why) = task.accepts(&event.what, meta) {
            self.life = Life::Undoing { cause, failure, task };
            return Err(why);
        }
        let mut exhausted = None;
        let (_, mut fx) = self.fx(now, out, &mut exhausted);
        match task.apply(&event.what, &mut fx) {
            TaskFlow::Completed => {
                self.undo.pop();
                self.undo_next(cause, failure, now, out);
            }
            _ => match exhausted {
                Some(exhausted) => self.park(exhausted.failure, Some((cause, task)), out),
                None => self.life = Life::Undoing { cause, failure, task },
            },
        }
        Ok(())
    }

    /// Records what arrives while nothing may move.
    fn hold(&mut self, event: &StepEvent, now: Time, out: &mut Effects) -> Result<(), Why> {
        let stopping = matches!(self.life, Life::Stopping { .. });
        let mut answer = Err(Why::NotOpen);
        if let Some(state) = &self.state {
            state.open(&mut |open| match open {
                Open::Task(task) if task.path == event.path && !is_held(&self.held, &event.path) => {
                    answer = match (&event.what, M::DEFINITION.task(event.path.node)) {
                        (StepHappened::TimerFired { .. } | StepHappened::Retry { .. }, _) | (_, None) => Err(Why::NotOpen),
                        (what, Some(meta)) => task.accepts(what, meta),
                    };
                }
                // Whether it fulfils the wait's condition is seen when the instance goes on; so several may be held for one wait.
                Open::Wait { path, .. } if path == event.path && !stopping && matches!(event.what, StepHappened::Received { .. }) => {
                    answer = Ok(());
                }
                _ => {}
            });
        }
        answer?;
        match &event.what {
            StepHappened::Started { .. } => {
                // Only moves the task's time-outs; nothing can come of it.
                return self.advance_quietly(event, now, out);
            }
            StepHappened::Completed { result, .. } => self.undo.completed(&event.path, result),
            StepHappened::Failed { outcome: Outcome::Unknown, .. } | StepHappened::Lost { .. } => self.undo.unknown(&event.path),
            _ => {}
        }
        self.held.push(event.clone());
        match &self.life {
            Life::Stopping { .. } => self.stop_further(now, out),
            // A person, or a late worker, gave the result of the step that waited for one.
            Life::Parked { undoing: None, .. } if matches!(event.what, StepHappened::Completed { .. }) => {
                let before = self.exhausted.len();
                self.exhausted.retain(|waiting| waiting.path != event.path);
                if before > 0 && self.exhausted.is_empty() {
                    out.notes.push(Note::Resumed);
                    self.thaw(now, out);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn advance_quietly(&mut self, event: &StepEvent, now: Time, out: &mut Effects) -> Result<(), Why> {
        let mut exhausted = None;
        let (slot, mut fx) = self.fx(now, out, &mut exhausted);
        let Some(state) = slot.take() else { return Err(Why::NotOpen) };
        let (state, answer) = match M::apply(state, event, &mut fx) {
            Ok(Flow::Stay(state)) => (Some(state), Ok(())),
            Ok(Flow::Done(_) | Flow::Failed(_)) => (None, Ok(())),
            Err(Refused(state, why)) => (Some(state), Err(why)),
        };
        *slot = state;
        answer
    }

    /// Runs on: what was held while frozen is applied now.
    fn thaw(&mut self, now: Time, out: &mut Effects) {
        self.life = Life::Running;
        let mut held = std::mem::take(&mut self.held).into_iter();
        while let Some(event) = held.next() {
            if self.is_frozen() {
                // One of them failed the instance again; the rest stays held.
                self.held.push(event);
                self.held.extend(held);
                return;
            }
            // Held events were accepted; one that an earlier one has made void (its group was stopped) is passed over.
            let _void = self.advance(&event, now, out);
        }
    }

    fn retry(&mut self, step: Option<Path>, input: Option<&serde_json::value::RawValue>, now: Time, out: &mut Effects) -> Result<(), Why> {
        if self.paused {
            return Err(Why::NotNow("the instance is paused: resume it first"));
        }
        if let Life::Parked { undoing: Some((_, task)), .. } = &self.life {
            return self.retry_undo(task.path, step, input, now, out);
        }
        match &self.life {
            Life::Parked { .. } | Life::Failed { .. } => {}
            Life::Running if !self.exhausted.is_empty() => {}
            _ => return Err(Why::NotNow("only a parked or failed instance can be retried")),
        }
        let again: Vec<Path> =
            self.exhausted.iter().map(|waiting| waiting.path).filter(|path| step.is_none_or(|step| step == *path)).collect();
        if self.state.is_none() || again.is_empty() {
            return Err(match step {
                Some(_) => Why::NotNow("that step does not wait for a retry"),
                None => Why::NotNow("nothing is left to retry from: use restart"),
            });
        }
        if input.is_some() && again.len() > 1 {
            return Err(Why::NotNow("several steps have failed: name the one that the input is for"));
        }
        let events: Vec<StepEvent> =
            again.iter().map(|path| StepEvent { path: *path, what: StepHappened::Retry { input: input.map(ToOwned::to_owned) } }).collect();
        self.check_retry(&events)?;
        self.exhausted.retain(|waiting| !again.contains(&waiting.path));
        out.notes.push(Note::Resumed);
        self.life = Life::Running;
        for event in &events {
            self.advance(event, now, out)?;
        }
        if matches!(self.life, Life::Running) {
            self.thaw(now, out);
        }
        Ok(())
    }

    /// All of them or none.
    fn check_retry(&self, events: &[StepEvent]) -> Result<(), Why> {
        let mut answer = Ok(());
        if let Some(state) = &self.state {
            state.open(&mut |open| {
                if let Open::Task(task) = open
                    && let Some(event) = events.iter().find(|event| event.path == task.path)
                    && let Some(meta) = M::DEFINITION.task(task.path.node)
                    && let Err(why) = task.accepts(&event.what, meta)
                {
                    answer = Err(why);
                }
            });
        }
        answer
    }

    fn retry_undo(
        &mut self,
        path: Path,
        step: Option<Path>,
        input: Option<&serde_json::value::RawValue>,
        now: Time,
        out: &mut Effects,
    ) -> Result<(), Why> {
        if step.is_some_and(|step| step != path) {
            return Err(Why::NotNow("that step does not wait for a retry"));
        }
        let event = StepHappened::Retry { input: input.map(ToOwned::to_owned) };
        let meta = M::DEFINITION.task(path.node).ok_or(Why::NotOpen)?;
        let Life::Parked { failure, undoing: Some((cause, mut task)) } = std::mem::replace(&mut self.life, Life::Running) else {
            return Err(Why::NotOpen);
        };
        if let Err(why) = task.accepts(&event, meta) {
            self.life = Life::Parked { failure, undoing: Some((cause, task)) };
            return Err(why);
        }
        let mut exhausted = None;
        let (_, mut fx) = self.fx(now, out, &mut exhausted);
        let _sent = task.apply(&event, &mut fx);
        out.notes.push(Note::Undoing);
        self.life = Life::Undoing { cause, failure, task };
        Ok(())
    }

    fn request_stop(&mut self, cause: Cause, reason: &str, now: Time, out: &mut Effects) -> Result<(), Why> {
        let name = if cause == Cause::Deadline { Failure::TIMEOUT } else { Failure::CANCELLED };
        match &self.life {
            Life::Running | Life::Parked { undoing: None, .. } => {
                self.stop(cause, Failure::new(name, reason), now, out);
                Ok(())
            }
            Life::Stopping { .. } | Life::Undoing { .. } => Err(Why::NotNow("the instance is already stopping")),
            Life::Parked { .. } => Err(Why::NotNow("an undo has failed: retry it, or fail the instance")),
            Life::Completed | Life::Failed { .. } | Life::Cancelled { .. } => Err(Why::NotNow("the instance has ended")),
        }
    }
}

/// The name under which generated code reports a failed `output`; it parks the instance.
pub(crate) const OUTPUT_FAILED: &str = "OutputFailed";

impl Failure {
    /// The workflow's `output` could not be computed.
    pub fn output(self) -> Self {
        Self::new(OUTPUT_FAILED, self.message)
    }
}

fn is_held(held: &[StepEvent], path: &Path) -> bool {
    held.iter().any(|event| event.path == *path)
}

impl<M: Machine> Instance for Run<M> {
    fn definition(&self) -> &'static Definition {
        M::DEFINITION
    }

    fn env(&self) -> &Env {
        &self.env
    }

    fn apply(&mut self, event: &Event, now: Time, out: &mut Effects) -> Result<(), Why> {
        match event {
            Event::Started(_) => Err(Why::NotNow("the instance has started already")),
            Event::Step(event) => self.step(event, now, out),
            Event::StopRequested { cause, reason } => self.request_stop(*cause, reason, now, out),
            Event::PauseRequested => match self.life {
                Life::Running if !self.paused => {
                    self.paused = true;
                    out.notes.push(Note::Paused);
                    Ok(())
                }
                Life::Running => Err(Why::NotNow("the instance is paused already")),
                _ => Err(Why::NotNow("only a running instance can be paused")),
            },
            Event::ResumeRequested => {
                if !self.paused {
                    return Err(Why::NotNow("the instance is not paused"));
                }
                self.paused = false;
                out.notes.push(Note::Resumed);
                self.thaw(now, out);
                Ok(())
            }
            Event::RetryRequested { step, input } => self.retry(*step, input.as_deref(), now, out),
            Event::UndoRequested => match &self.life {
                Life::Parked { failure, undoing: None } => {
                    let failure = failure.clone();
                    self.stop(Cause::Failed, failure, now, out);
                    Ok(())
                }
                _ => Err(Why::NotNow("only a parked instance can be told to undo")),
            },
            Event::FailRequested { reason } => match &self.life {
                Life::Parked { failure, undoing } => {
                    let cause = undoing.as_ref().map_or(Cause::Failed, |(cause, _)| *cause);
                    let failure = if reason.is_empty() { failure.clone() } else { Failure::new(failure.name.clone(), reason.clone()) };
                    self.state = None;
                    self.held.clear();
                    self.end(cause, failure, out);
                    Ok(())
                }
                _ => Err(Why::NotNow("only a parked instance can be told to fail")),
            },
            Event::ParkRequested { failure } => match self.life {
                Life::Running => {
                    self.park(failure.clone(), None, out);
                    Ok(())
                }
                _ => Err(Why::NotNow("the instance is not running")),
            },
        }
    }

    fn phase(&self) -> Phase {
        match &self.life {
            Life::Running => Phase::Running,
            Life::Stopping { .. } => Phase::Stopping,
            Life::Undoing { .. } => Phase::Undoing,
            Life::Parked { .. } => Phase::Parked,
            Life::Completed => Phase::Completed,
            Life::Failed { .. } => Phase::Failed,
            Life::Cancelled { .. } => Phase::Cancelled,
        }
    }

    fn is_paused(&self) -> bool {
        self.paused
    }

    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        match &self.life {
            Life::Undoing { task, .. } | Life::Parked { undoing: Some((_, task)), .. } => return visit(Open::Task(task)),
            Life::Completed | Life::Failed { .. } | Life::Cancelled { .. } => return,
            Life::Running | Life::Stopping { .. } | Life::Parked { .. } => {}
        }
        let frozen = self.is_frozen();
        let stopping = matches!(self.life, Life::Stopping { .. });
        if matches!(self.life, Life::Running)
            && let Some(ms) = M::DEFINITION.deadline_ms
        {
            visit(Open::Timer { path: Path::default(), timer: Timer::Deadline, due: self.env.started_at.plus_ms(ms) });
        }
        let Some(state) = &self.state else { return };
        state.open(&mut |open| match &open {
            Open::Task(task) if frozen && is_held(&self.held, &task.path) => {}
            Open::Task(task) if stopping && task.attempt != Attempt::Sent => {}
            Open::Task(task) if frozen && matches!(task.attempt, Attempt::BackingOff { .. }) => {}
            Open::Wait { .. } if stopping => {}
            // Its time-out does not run while nothing may move.
            Open::Wait { path, event, value, .. } if frozen => visit(Open::Wait { path: *path, event, value: *value, due: None }),
            Open::Timer { .. } if frozen => {}
            _ => visit(open),
        });
    }

    fn decide(&self, path: &Path, attempt: u32, failed: AttemptFailed, now: Time) -> Result<StepEvent, Why> {
        let meta = M::DEFINITION.task(path.node).ok_or(Why::NotOpen)?;
        let stopping = matches!(self.life, Life::Stopping { .. });
        let mut answer = Err(Why::NotOpen);
        self.open(&mut |open| {
            if let Open::Task(task) = open
                && task.path == *path
            {
                let event = task.decide(meta, failed.clone(), stopping, now, &self.env.id);
                let probe = StepHappened::Lost { attempt, next: now };
                answer = task.accepts(&probe, meta).map(|()| event);
            }
        });
        answer
    }

    fn failure(&self) -> Option<&Failure> {
        match &self.life {
            Life::Stopping { failure, .. }
            | Life::Undoing { failure, .. }
            | Life::Parked { failure, .. }
            | Life::Failed { failure }
            | Life::Cancelled { failure } => Some(failure),
            Life::Running | Life::Completed => None,
        }
    }
}
