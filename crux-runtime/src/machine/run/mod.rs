//! The life of an instance around the state of its machine: pause, stop, undo, park, retry and the
//! end, the same for every workflow.
//!
//! While an instance is paused, stopping, or parked by the engine it is *frozen*: results and
//! events that arrive are journalled and held, and the machine's state does not move. On resume or
//! retry what was held is applied, in order, as of that moment. So nothing that happened is lost,
//! nothing new starts, and the machine itself knows nothing of this.
//!
//! An instance that is parked because one of its steps waits for a person is not frozen: what does
//! not depend on that step goes on, with its retries and timeouts. Only the timeouts of what is
//! around the step, and `deadline`, wait with it.

mod frozen;
mod retry;
mod stop;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::definition::{Definition, OnExhausted};
use super::effect::{Effect, Effects, Ended, Hook, Note};
use super::event::{Cause, Event, Started, StepEvent, StepHappened, Timer};
use super::flow::{Applied, Flow, Refused, RejectReason};
use super::fx::{Env, Exhausted, Fx};
use super::instance::{Instance, Phase};
use super::kept::Kept;
use super::part::{Open, Part};
use super::task::{Attempt, AttemptFailed, TaskState};
use super::undo::{Undo, UndoStack};
use super::{Failure, Path, Time, Value, json};

/// A workflow's generated machine.
pub trait Machine: Send + 'static {
    const DEFINITION: &'static Definition;
    type Input: Value;
    /// The root scope.
    type State: Part + Send + 'static;
    type Output: Value;
    type Undo: Undo;

    fn start(input: Self::Input, fx: &mut Fx<'_, Self::Undo>) -> Flow<Self::State, Self::Output>;

    fn apply(
        state: Self::State,
        event: &StepEvent,
        fx: &mut Fx<'_, Self::Undo>,
    ) -> Applied<Self::State, Self::Output>;
}

/// An instance of the workflow `M`.
pub struct Run<M: Machine> {
    env: Env,
    /// `None` once it has ended, or failed in a way that leaves nothing to go on from.
    state: Option<M::State>,
    life: Life,
    paused: bool,
    undo: UndoStack<M::Undo>,
    kept: Kept,
    /// Accepted while frozen, not yet applied to the state.
    held: Vec<StepEvent>,
    /// Tasks that wait for a person, and why.
    exhausted: Vec<Exhausted>,
    /// Events that it has taken, by wait: each wait gets one once, also when a later round of a
    /// `repeat` waits for the same again.
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
    pub fn start(
        id: &str,
        started: &Started,
        now: Time,
        out: &mut Effects,
    ) -> Result<Self, String> {
        let input: M::Input = json::decode(&started.input)?;
        let env = Env {
            id: id.to_owned(),
            request_id: started.request_id.clone(),
            owner: started.owner.clone(),
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
            kept: Kept::default(),
            held: Vec::new(),
            exhausted: Vec::new(),
            received: BTreeSet::new(),
        };
        if let Some(routing_key) = M::DEFINITION.hooks.on_start {
            out.all.push(Effect::Hook { kind: Hook::Start, routing_key });
        }
        let mut exhausted = Vec::new();
        let flow = M::start(input, &mut run.fx(now, out, &mut exhausted).1);
        run.settle(flow, exhausted, now, out);
        Ok(run)
    }

    /// The surroundings of one step of the machine, and the state beside them.
    fn fx<'a>(
        &'a mut self,
        now: Time,
        out: &'a mut Effects,
        exhausted: &'a mut Vec<Exhausted>,
    ) -> (&'a mut Option<M::State>, Fx<'a, M::Undo>) {
        let fx = Fx {
            definition: M::DEFINITION,
            env: &self.env,
            now,
            at: Default::default(),
            out,
            undo: &mut self.undo,
            kept: &mut self.kept,
            exhausted,
        };
        (&mut self.state, fx)
    }

    fn is_frozen(&self) -> bool {
        self.paused || !matches!(self.life, Life::Running)
    }

    fn step(
        &mut self,
        event: &StepEvent,
        now: Time,
        out: &mut Effects,
    ) -> Result<(), RejectReason> {
        if let StepHappened::Received { event_id, .. } = &event.what {
            let taken = (M::DEFINITION.across_rounds(&event.path), event_id.clone());
            if self.received.contains(&taken) {
                return Err(RejectReason::InvalidState("the step has taken that event already"));
            }
            self.step_any(event, now, out)?;
            self.received.insert(taken);
            return Ok(());
        }
        self.step_any(event, now, out)
    }

    fn step_any(
        &mut self,
        event: &StepEvent,
        now: Time,
        out: &mut Effects,
    ) -> Result<(), RejectReason> {
        if let Life::Undoing { task, .. } = &self.life
            && task.path == event.path
        {
            return self.step_undo(event, now, out);
        }
        match self.life {
            // A failed instance keeps its state for a retry; until then it has ended like any
            // other.
            Life::Completed | Life::Failed { .. } | Life::Cancelled { .. } => {
                Err(RejectReason::InvalidState("the instance has ended"))
            }
            _ if self.is_frozen() => self.hold(event, now, out),
            _ => self.advance(event, now, out),
        }
    }

    /// Moves the machine's state.
    fn advance(
        &mut self,
        event: &StepEvent,
        now: Time,
        out: &mut Effects,
    ) -> Result<(), RejectReason> {
        let was_parked = self.awaits_person();
        let mut exhausted = Vec::new();
        let (slot, mut fx) = self.fx(now, out, &mut exhausted);
        let Some(state) = slot.take() else { return Err(RejectReason::NotOpen) };
        let mark = fx.out.mark();
        match M::apply(state, event, &mut fx) {
            Err(Refused(state, why)) => {
                debug_assert!(fx.out.is_at(mark), "a refused event wrote effects");
                *slot = Some(state);
                Err(why)
            }
            Ok(flow) => {
                self.settle(flow, exhausted, now, out);
                if was_parked
                    && !self.awaits_person()
                    && matches!(self.life, Life::Running | Life::Completed)
                {
                    out.note_at(mark, Note::Resumed);
                }
                Ok(())
            }
        }
    }

    /// After the machine has moved.
    fn settle(
        &mut self,
        flow: Flow<M::State, M::Output>,
        exhausted: Vec<Exhausted>,
        now: Time,
        out: &mut Effects,
    ) {
        if !matches!(flow, Flow::Stay(_)) {
            self.exhausted.clear();
        }
        match flow {
            Flow::Stay(state) => {
                self.state = Some(state);
                self.forget_gone();
                let is_new = !exhausted.is_empty();
                let was_parked = self.awaits_person();
                let Some(failure) = exhausted
                    .first()
                    .or(self.exhausted.first())
                    .map(|waiting| waiting.failure.clone())
                else {
                    return;
                };
                self.exhausted.extend(exhausted);
                match M::DEFINITION.on_exhausted {
                    OnExhausted::Park if was_parked => {}
                    OnExhausted::Park => out.notes.push(Note::Parked { failure }),
                    OnExhausted::Undo if is_new || !self.has_open() => {
                        self.stop(Cause::Failed, failure, now, out)
                    }
                    OnExhausted::Undo => {}
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

    /// Whether it is parked because a step waits for a person, and else goes on.
    fn awaits_person(&self) -> bool {
        self.parked_by().is_some()
    }

    fn parked_by(&self) -> Option<&Failure> {
        let goes_on =
            matches!(self.life, Life::Running) && M::DEFINITION.on_exhausted == OnExhausted::Park;
        self.exhausted.first().filter(|_| goes_on).map(|waiting| &waiting.failure)
    }

    /// Steps wait for nobody any more when what is around them has failed meanwhile.
    fn forget_gone(&mut self) {
        let Some(state) = self.state.as_ref().filter(|_| !self.exhausted.is_empty()) else {
            return;
        };
        let mut waiting = BTreeSet::new();
        state.open(&mut |open| {
            if let Open::Task(task) = open
                && matches!(task.attempt, Attempt::Exhausted(_))
            {
                waiting.insert(task.path);
            }
        });
        self.exhausted.retain(|exhausted| waiting.contains(&exhausted.path));
    }

    /// Whether a step that waits for a person stands in the step at `around`.
    fn is_around_person(&self, around: &Path) -> bool {
        let inside = |path: &Path| {
            M::DEFINITION.is_inside(path.node, around.node)
                && path.at.as_slice().starts_with(around.at.as_slice())
        };
        self.awaits_person() && self.exhausted.iter().any(|waiting| inside(&waiting.path))
    }

    /// Whether anything but exhausted tasks is open.
    fn has_open(&self) -> bool {
        let mut any = false;
        if let Some(state) = &self.state {
            state.open(&mut |open| any |= !matches!(open, Open::Task(task) if matches!(task.attempt, Attempt::Exhausted(_))));
        }
        any
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

    fn apply(&mut self, event: &Event, now: Time, out: &mut Effects) -> Result<(), RejectReason> {
        match event {
            Event::Started(_) => {
                Err(RejectReason::InvalidState("the instance has started already"))
            }
            Event::Step(event) => self.step(event, now, out),
            Event::StopRequested { cause, reason } => self.request_stop(*cause, reason, now, out),
            Event::PauseRequested => match self.life {
                Life::Running if !self.paused && !self.awaits_person() => {
                    self.paused = true;
                    out.notes.push(Note::Paused);
                    Ok(())
                }
                Life::Running if self.paused => {
                    Err(RejectReason::InvalidState("the instance is paused already"))
                }
                _ => Err(RejectReason::InvalidState("only a running instance can be paused")),
            },
            Event::ResumeRequested => {
                if !self.paused {
                    return Err(RejectReason::InvalidState("the instance is not paused"));
                }
                self.paused = false;
                out.notes.push(Note::Resumed);
                self.thaw(now, out);
                Ok(())
            }
            Event::RetryRequested { step, input } => self.retry(*step, input.as_deref(), now, out),
            Event::UndoRequested => {
                let failure = match (&self.life, self.parked_by()) {
                    (Life::Parked { failure, undoing: None }, _)
                    | (Life::Running, Some(failure)) => failure.clone(),
                    _ => {
                        return Err(RejectReason::InvalidState(
                            "only a parked instance can be undone",
                        ));
                    }
                };
                self.stop(Cause::Failed, failure, now, out);
                Ok(())
            }
            Event::FailRequested { reason } => {
                let (cause, failure) = match (&self.life, self.parked_by()) {
                    (Life::Parked { failure, undoing }, _) => {
                        (undoing.as_ref().map_or(Cause::Failed, |(cause, _)| *cause), failure)
                    }
                    (Life::Running, Some(failure)) => (Cause::Failed, failure),
                    _ => {
                        return Err(RejectReason::InvalidState(
                            "only a parked instance can be failed",
                        ));
                    }
                };
                let failure = if reason.is_empty() {
                    failure.clone()
                } else {
                    Failure::new(failure.name.clone(), reason.clone())
                };
                self.give_up_open(out);
                self.state = None;
                self.held.clear();
                self.exhausted.clear();
                self.end(cause, failure, out);
                Ok(())
            }
            Event::ParkRequested { failure } => match self.life {
                Life::Running => {
                    self.park(failure.clone(), None, out);
                    Ok(())
                }
                _ => Err(RejectReason::InvalidState("the instance is not running")),
            },
        }
    }

    fn phase(&self) -> Phase {
        match &self.life {
            Life::Running if self.awaits_person() => Phase::Parked,
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
            Life::Undoing { task, .. } | Life::Parked { undoing: Some((_, task)), .. } => {
                return visit(Open::Task(task));
            }
            Life::Completed | Life::Failed { .. } | Life::Cancelled { .. } => return,
            Life::Running | Life::Stopping { .. } | Life::Parked { .. } => {}
        }
        let frozen = self.is_frozen();
        let stopping = matches!(self.life, Life::Stopping { .. });
        // While it is paused nothing begins by itself, and neither does its end; on resume a
        // deadline that has passed counts immediately.
        if matches!(self.life, Life::Running)
            && !self.paused
            && !self.awaits_person()
            && let Some(ms) = M::DEFINITION.deadline_ms
        {
            visit(Open::Timer {
                path: Path::default(),
                timer: Timer::Deadline,
                due: self.env.started_at.plus_ms(ms),
            });
        }
        let Some(state) = &self.state else { return };
        state.open(&mut |open| match &open {
            Open::Task(task) if frozen && is_held(&self.held, &task.path) => {}
            Open::Task(task) if stopping && task.attempt != Attempt::Sent => {}
            Open::Task(task) if frozen && matches!(task.attempt, Attempt::BackingOff { .. }) => {}
            Open::Wait { .. } if stopping => {}
            // Its timeout does not run while nothing may move.
            Open::Wait { path, event, value, .. } if frozen => {
                visit(Open::Wait { path: *path, event, value: *value, due: None })
            }
            Open::Timer { .. } if frozen => {}
            Open::Timer { path, timer: Timer::Timeout, .. } if self.is_around_person(path) => {}
            _ => visit(open),
        });
    }

    fn decide(
        &self,
        path: &Path,
        attempt: u32,
        failed: AttemptFailed,
        now: Time,
    ) -> Result<StepEvent, RejectReason> {
        let meta = M::DEFINITION.task(path.node).ok_or(RejectReason::NotOpen)?;
        let stopping = matches!(self.life, Life::Stopping { .. });
        let mut answer = Err(RejectReason::NotOpen);
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
            Life::Running => self.parked_by(),
            Life::Completed => None,
        }
    }
}
