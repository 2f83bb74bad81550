//! One step being worked on: its attempts, timeouts and retries. It knows no types; a
//! [`TaskStep`](super::TaskStep) adds its contract's.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::definition::Task;
use super::effect::{Effect, Note};
use super::event::{Outcome, StepEvent, StepHappened, Timer};
use super::flow::RejectReason;
use super::fx::{Exhausted, Fx};
use super::part::{Open, Part};
use super::undo::Undo;
use super::{Failure, Path, Time};

/// How often a task whose worker died goes out again without using up an attempt.
pub const FREE_RESENDS: u32 = 3;

/// Where a task's current attempt stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    /// Handed out, or on its way.
    Sent,
    BackingOff {
        until: Time,
    },
    /// Used up, and no `catch` takes it: waits for a person.
    Exhausted(Failure),
}

/// The untyped state of one task.
#[derive(Debug, Clone)]
pub struct TaskState {
    pub path: Path,
    /// As it is sent; `None` if computing it failed (then [`Attempt::Exhausted`]).
    pub input: Option<Arc<RawValue>>,
    pub key: Option<Arc<str>>,
    /// The current attempt, from 1.
    pub number: u32,
    pub attempt: Attempt,
    /// The number of attempts before the last `retry` of a person; the policy counts from there.
    pub before_retry: u32,
    /// How often workers died with it.
    pub lost: u32,
    /// When the first attempt went out; `total` counts from here.
    pub first_at: Time,
    /// When the current attempt went out.
    pub sent_at: Time,
    /// When its worker reported that it began.
    pub started_at: Option<Time>,
}

/// The result of offering an event to a task.
#[derive(Debug)]
pub(super) enum TaskFlow {
    Open,
    Completed,
    Failed(Failure),
}

impl TaskState {
    pub(super) fn start<U: Undo>(
        path: Path,
        input: Arc<RawValue>,
        key: Option<Arc<str>>,
        fx: &mut Fx<'_, U>,
    ) -> Self {
        let now = fx.now;
        let task = Self {
            path,
            input: Some(input),
            key,
            number: 1,
            attempt: Attempt::Sent,
            before_retry: 0,
            lost: 0,
            first_at: now,
            sent_at: now,
            started_at: None,
        };
        task.dispatch(fx);
        task
    }

    /// A task that failed before it had an input, and that no `catch` takes.
    pub(super) fn stillborn<U: Undo>(path: Path, failure: Failure, fx: &mut Fx<'_, U>) -> Self {
        fx.exhausted.push(Exhausted { path, failure: failure.clone() });
        fx.out.notes.push(Note::StepFailed { path, failure: failure.clone() });
        let now = fx.now;
        Self {
            path,
            input: None,
            key: None,
            number: 1,
            attempt: Attempt::Exhausted(failure),
            before_retry: 0,
            lost: 0,
            first_at: now,
            sent_at: now,
            started_at: None,
        }
    }

    fn dispatch<U: Undo>(&self, fx: &mut Fx<'_, U>) {
        if let Some(input) = &self.input {
            fx.out.all.push(Effect::Dispatch {
                path: self.path,
                attempt: self.number,
                input: input.clone(),
                key: self.key.clone(),
            });
            fx.out.notes.push(Note::StepStarted { path: self.path, attempt: self.number });
        }
    }

    fn send_again<U: Undo>(&mut self, fx: &mut Fx<'_, U>) {
        self.attempt = Attempt::Sent;
        self.sent_at = fx.now;
        self.started_at = None;
        self.dispatch(fx);
    }

    /// Whether `event` is one that this task would take, without taking it.
    pub(super) fn accepts(&self, event: &StepHappened, task: &Task) -> Result<(), RejectReason> {
        match event {
            StepHappened::Completed { attempt, result } => {
                if attempt.is_some_and(|attempt| attempt > self.number || attempt == 0) {
                    return Err(RejectReason::NotOpen);
                }
                (task.contract.check_result)(result).map_err(RejectReason::Invalid)
            }
            StepHappened::Failed { attempt, .. }
            | StepHappened::Lost { attempt, .. }
            | StepHappened::Returned { attempt, .. } => {
                if *attempt < self.number {
                    Err(RejectReason::Superseded)
                } else if *attempt > self.number || self.attempt != Attempt::Sent {
                    Err(RejectReason::NotOpen)
                } else {
                    Ok(())
                }
            }
            StepHappened::Started { attempt } => {
                if *attempt == self.number
                    && self.attempt == Attempt::Sent
                    && self.started_at.is_none()
                {
                    Ok(())
                } else {
                    Err(RejectReason::NotOpen)
                }
            }
            StepHappened::TimerFired { timer: Timer::Retry }
                if matches!(self.attempt, Attempt::BackingOff { .. }) =>
            {
                Ok(())
            }
            StepHappened::Retry { input } => match (&self.attempt, input, &self.input) {
                (Attempt::Exhausted(_), Some(input), _) => {
                    (task.contract.check_input)(input).map_err(RejectReason::Invalid)
                }
                (Attempt::Exhausted(_), None, Some(_)) => Ok(()),
                (Attempt::Exhausted(_), None, None) => Err(RejectReason::InvalidState(
                    "the step never had an input: retry it with one",
                )),
                _ => Err(RejectReason::InvalidState("the step has not failed")),
            },
            StepHappened::TimerFired { .. } | StepHappened::Received { .. } => {
                Err(RejectReason::NotOpen)
            }
        }
    }

    /// Takes an event that [`Self::accepts`] would accept.
    pub(super) fn apply<U: Undo>(&mut self, event: &StepHappened, fx: &mut Fx<'_, U>) -> TaskFlow {
        match event {
            StepHappened::Completed { result, .. } => {
                fx.undo.completed(&self.path, result);
                return TaskFlow::Completed;
            }
            StepHappened::Failed { outcome, failure, next, .. } => {
                if *outcome == Outcome::Unknown {
                    fx.undo.unknown(&self.path);
                }
                match next {
                    Some(next) => {
                        self.number += 1;
                        self.started_at = None;
                        self.attempt = Attempt::BackingOff { until: *next };
                        if *next <= fx.now {
                            self.send_again(fx);
                        }
                    }
                    None => return self.exhaust(failure.clone(), fx),
                }
            }
            StepHappened::Lost { next, .. } => {
                fx.undo.unknown(&self.path);
                self.lost += 1;
                self.attempt = Attempt::BackingOff { until: *next };
                if *next <= fx.now {
                    self.send_again(fx);
                }
            }
            // Not sent again here, however soon that is: the executor that gave it back would only
            // get it again.
            StepHappened::Returned { next, .. } => {
                self.attempt = Attempt::BackingOff { until: *next }
            }
            StepHappened::Started { .. } => self.started_at = Some(fx.now),
            StepHappened::TimerFired { .. } => self.send_again(fx),
            StepHappened::Retry { input } => {
                // Attempt numbers are never used twice, except that a task without an input never
                // sent its first.
                if self.input.is_some() {
                    self.number += 1;
                }
                if let Some(input) = input {
                    self.input = Some(Arc::from(input.clone()));
                }
                self.before_retry = self.number - 1;
                self.lost = 0;
                self.first_at = fx.now;
                self.send_again(fx);
            }
            StepHappened::Received { .. } => {}
        }
        TaskFlow::Open
    }

    fn exhaust<U: Undo>(&mut self, failure: Failure, fx: &mut Fx<'_, U>) -> TaskFlow {
        let caught =
            fx.definition.node(self.path.node).is_some_and(|node| node.caught.takes(&failure.name));
        if caught {
            return TaskFlow::Failed(failure);
        }
        fx.exhausted.push(Exhausted { path: self.path, failure: failure.clone() });
        self.attempt = Attempt::Exhausted(failure);
        TaskFlow::Open
    }

    /// When something must be done about this task if nothing happens until then, and what: the
    /// earliest of its timers. `began_at` and `heartbeat_at` are times that live in memory
    /// only; an attempt whose worker does not report its start began when it was handed over. A
    /// `run` timeout of an attempt that has not begun is looked at again.
    pub fn next_timer(
        &self,
        task: &Task,
        began_at: Option<Time>,
        heartbeat_at: Option<Time>,
        now: Time,
    ) -> Option<(Time, Timer)> {
        match self.attempt {
            Attempt::Exhausted(_) => None,
            Attempt::BackingOff { until } => Some((until, Timer::Retry)),
            Attempt::Sent => {
                let policy = &task.policy;
                let reports = task.contract.reports_started;
                let began = self.started_at.or(began_at);
                let mut next: Option<(Time, Timer)> = None;
                let mut consider = |from: Time, ms: Option<u64>, timer| {
                    if let Some(ms) = ms
                        && next.is_none_or(|(earliest, _)| from.plus_ms(ms) < earliest)
                    {
                        next = Some((from.plus_ms(ms), timer));
                    }
                };
                consider(self.sent_at, policy.queue_ms.filter(|_| began.is_none()), Timer::Queue);
                consider(began.unwrap_or(now), policy.run_ms, Timer::Run);
                consider(
                    heartbeat_at.max(began).unwrap_or(now),
                    policy.heartbeat_ms.filter(|_| reports),
                    Timer::Heartbeat,
                );
                consider(self.first_at, policy.total_ms, Timer::Total);
                next
            }
        }
    }

    /// Decides what follows an attempt that ended in `failure`: the event to journal. `retry` and
    /// `after_ms` are requested by the worker. `stopping`: nothing new may start.
    pub fn decide(
        &self,
        task: &Task,
        failed: AttemptFailed,
        stopping: bool,
        now: Time,
        instance: &str,
    ) -> StepEvent {
        let once = task.is_once();
        let AttemptFailed { mut outcome, mut failure, retry, after_ms } = failed;
        let is_misfit = failure.name == Failure::INVALID_RESULT;
        if is_misfit {
            // It said that it has succeeded: what it does has been done, though its result is no
            // use.
            outcome = Outcome::Unknown;
        }
        if failure.name == Failure::WORKER_LOST
            && outcome == Outcome::Unknown
            && !once
            && !stopping
            && self.lost < FREE_RESENDS
        {
            return StepEvent {
                path: self.path,
                what: StepHappened::Lost { attempt: self.number, next: now },
            };
        }
        let may_repeat = !once || outcome != Outcome::Unknown;
        if !may_repeat && !is_misfit {
            failure = Failure::new(Failure::OUTCOME_UNKNOWN, failure.to_string());
        }
        let next = if stopping
            || retry == Some(false)
            || !may_repeat
            || failure.name == Failure::OUTCOME_UNKNOWN
        {
            None
        } else {
            self.next_attempt(task, &failure, after_ms, now, instance)
        };
        StepEvent {
            path: self.path,
            what: StepHappened::Failed { attempt: self.number, outcome, failure, next },
        }
    }

    fn next_attempt(
        &self,
        task: &Task,
        failure: &Failure,
        after_ms: Option<u64>,
        now: Time,
        instance: &str,
    ) -> Option<Time> {
        let policy = &task.policy;
        let name = failure.name.as_ref();
        let wanted = if policy.never.contains(&name) {
            false
        } else if policy.only.is_empty() {
            ![
                Failure::INVALID_INPUT,
                Failure::INVALID_RESULT,
                Failure::EXPRESSION_ERROR,
                Failure::OUTCOME_UNKNOWN,
            ]
            .contains(&name)
        } else {
            policy.only.contains(&name)
        };
        if !wanted || self.number - self.before_retry >= policy.attempts {
            return None;
        }
        let next = now.plus_ms(after_ms.unwrap_or_else(|| self.backoff_ms(task, instance)));
        let too_late = policy.total_ms.is_some_and(|total| next >= self.first_at.plus_ms(total));
        (!too_late).then_some(next)
    }

    /// Exponential, at most `max`; jitter takes away up to half, so that the sum of back-offs has a
    /// known bound.
    fn backoff_ms(&self, task: &Task, instance: &str) -> u64 {
        let policy = &task.policy;
        let limit = policy.max_backoff_ms.unwrap_or(u64::MAX);
        let mut backoff = policy.backoff_ms;
        for _ in 1..self.number - self.before_retry {
            if backoff >= limit {
                break;
            }
            backoff = u64::try_from(u128::from(backoff) * u128::from(policy.factor_milli) / 1000)
                .unwrap_or(u64::MAX);
        }
        let backoff = backoff.min(limit);
        if !policy.jitter {
            return backoff;
        }
        // Elements that fail together do not come back together.
        let loops: Vec<u8> =
            self.path.at.as_slice().iter().flat_map(|index| index.to_le_bytes()).collect();
        let hash = super::hash(&[
            instance.as_bytes(),
            &self.path.node.to_le_bytes(),
            &loops,
            &self.number.to_le_bytes(),
        ]);
        backoff
            - u64::try_from((u128::from(backoff / 2) * u128::from(hash >> 32)) >> 32).unwrap_or(0)
    }
}

/// How an attempt ended that did not succeed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptFailed {
    pub outcome: Outcome,
    pub failure: Failure,
    /// The worker's own word on whether to try again; `Some(true)` does not override the policy.
    pub retry: Option<bool>,
    /// The worker's own wish when.
    pub after_ms: Option<u64>,
}

impl Part for TaskState {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        visit(Open::Task(self));
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::{Contract, EffectKind, Policy, Runs};
    use super::super::path::Indices;
    use super::*;

    static CONTRACT: Contract = Contract {
        step_type: "ask",
        runs: Runs::Service { routing_key: "step.ask" },
        effect: EffectKind::Idempotent,
        reports_started: false,
        payload: false,
        raises: &[],
        check_input: |_| Ok(()),
        check_result: |_| Ok(()),
        input_schema: "{}",
        output_schema: "{}",
    };

    /// Elements that fail in the same moment would otherwise come back in the same moment.
    #[test]
    fn every_element_has_its_own_backoff_and_always_the_same() {
        let meta = Task {
            contract: &CONTRACT,
            policy: Policy::retry(3, 10_000),
            keyed: false,
            undo: None,
        };
        let next = |element: u32, instance: &str| {
            let at = Indices::default().pushed(element).expect("one loop");
            let task = TaskState {
                path: Path { node: 1, at },
                input: None,
                key: None,
                number: 1,
                attempt: Attempt::Sent,
                before_retry: 0,
                lost: 0,
                first_at: Time(0),
                sent_at: Time(0),
                started_at: None,
            };
            let failed = AttemptFailed {
                outcome: Outcome::Failed,
                failure: Failure::new("Error", "x"),
                retry: None,
                after_ms: None,
            };
            match task.decide(&meta, failed, false, Time(0), instance).what {
                StepHappened::Failed { next: Some(next), .. } => next.0,
                other => panic!("it is not tried again: {other:?}"),
            }
        };
        let mut pauses: Vec<i64> = (0..100).map(|element| next(element, "a")).collect();
        assert_eq!(pauses, (0..100).map(|element| next(element, "a")).collect::<Vec<_>>());
        assert_ne!(next(0, "a"), next(0, "b"));
        pauses.sort_unstable();
        assert!(pauses[0] >= 5_000 && pauses[99] <= 10_000, "{pauses:?}");
        pauses.dedup();
        assert!(pauses.len() > 90 && pauses[pauses.len() - 1] - pauses[0] > 3_000, "{pauses:?}");
    }
}
