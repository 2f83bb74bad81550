//! Rounds until a condition holds, `max` at most, with a pause between them.

use super::composite::{Composite, Inside};
use super::effect::Waiting;
use super::event::{StepEvent, StepHappened, Timer};
use super::flow::{Applied, Flow, Refused, RejectReason};
use super::fx::Fx;
use super::part::{Open, Part};
use super::undo::Undo;
use super::{Failure, Path, Time};

/// How a `repeat` is written.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    pub node: u16,
    pub max: u32,
    pub every_ms: u64,
}

impl Rounds {
    pub const fn new(node: u16, max: u32, every_ms: u64) -> Self {
        Self { node, max, every_ms }
    }
}

/// The state `S` of the round's scope, or the pause before the next. Rounds count from 1.
#[derive(Debug)]
pub struct Repeat<S> {
    path: Path,
    round: u32,
    phase: Phase<S>,
}

#[derive(Debug)]
enum Phase<S> {
    Round(Box<S>),
    Pause { until: Time },
}

impl<S: Part> Repeat<S> {
    /// Begins the first round. `until` is asked with the results of each round that is done.
    pub fn start<U: Undo, T>(
        rounds: Rounds,
        fx: &mut Fx<'_, U>,
        enter: impl FnMut(&mut Fx<'_, U>) -> Flow<S, T>,
        until: impl FnMut(&T, &mut Fx<'_, U>) -> Result<bool, Failure>,
    ) -> Inside<Self, T> {
        let path = fx.path(rounds.node);
        Self::rounds(rounds, path, 1, fx, enter, until)
    }

    /// Rounds from `round` on, until one stays open, the condition holds, or a pause is due.
    fn rounds<U: Undo, T>(
        rounds: Rounds,
        path: Path,
        mut round: u32,
        fx: &mut Fx<'_, U>,
        mut enter: impl FnMut(&mut Fx<'_, U>) -> Flow<S, T>,
        mut until: impl FnMut(&T, &mut Fx<'_, U>) -> Result<bool, Failure>,
    ) -> Inside<Self, T> {
        loop {
            fx.kept.begin_round(fx.definition, rounds.node, fx.at);
            let result = match fx.inside(round, &mut enter) {
                Flow::Stay(state) => {
                    return Inside::Stay(Self {
                        path,
                        round,
                        phase: Phase::Round(Box::new(state)),
                    });
                }
                Flow::Failed(failure) => return Inside::Failed(failure),
                Flow::Done(result) => result,
            };
            match Self::after(rounds, path, round, result, fx, &mut until) {
                After::Again if fx.out.pass() => round += 1,
                After::Again => return Self::pause(path, round, 0, fx),
                After::Is(inside) => return inside,
            }
        }
    }

    fn after<U: Undo, T>(
        rounds: Rounds,
        path: Path,
        round: u32,
        result: T,
        fx: &mut Fx<'_, U>,
        until: &mut impl FnMut(&T, &mut Fx<'_, U>) -> Result<bool, Failure>,
    ) -> After<Inside<Self, T>> {
        After::Is(match fx.inside(round, |fx| until(&result, fx)) {
            Ok(true) => Inside::Done(result),
            Err(failure) => Inside::Failed(failure),
            Ok(false) if round >= rounds.max => {
                let text = format!("{} rounds have passed and `until` does not hold", rounds.max);
                Inside::Failed(Failure::new(Failure::REPEAT_EXHAUSTED, text))
            }
            Ok(false) if rounds.every_ms > 0 => Self::pause(path, round, rounds.every_ms, fx),
            Ok(false) => return After::Again,
        })
    }

    /// After a round. Rounds that take no time make a pause of none when they have been many.
    fn pause<U: Undo, T>(path: Path, round: u32, ms: u64, fx: &mut Fx<'_, U>) -> Inside<Self, T> {
        let until = fx.now.plus_ms(ms);
        fx.waiting(path, Waiting::Until(until));
        Inside::Stay(Self { path, round, phase: Phase::Pause { until } })
    }

    /// Offers an event to the round, or ends the pause.
    pub fn apply<U: Undo, T>(
        self,
        rounds: Rounds,
        event: &StepEvent,
        fx: &mut Fx<'_, U>,
        apply: impl FnOnce(S, &mut Fx<'_, U>) -> Applied<S, T>,
        enter: impl FnMut(&mut Fx<'_, U>) -> Flow<S, T>,
        mut until: impl FnMut(&T, &mut Fx<'_, U>) -> Result<bool, Failure>,
    ) -> Result<Inside<Self, T>, Refused<Self>> {
        let Self { path, round, phase } = self;
        match phase {
            Phase::Pause { until: due } => {
                if event.path == path
                    && matches!(event.what, StepHappened::TimerFired { timer: Timer::Sleep })
                {
                    Ok(Self::rounds(rounds, path, round + 1, fx, enter, until))
                } else {
                    Err(Refused(
                        Self { path, round, phase: Phase::Pause { until: due } },
                        RejectReason::NotOpen,
                    ))
                }
            }
            Phase::Round(state) => {
                if event.path.index(fx.depth()) != Some(round) {
                    return Err(Refused(
                        Self { path, round, phase: Phase::Round(state) },
                        RejectReason::NotOpen,
                    ));
                }
                match fx.inside(round, |fx| apply(*state, fx)) {
                    Err(Refused(state, why)) => Err(Refused(
                        Self { path, round, phase: Phase::Round(Box::new(state)) },
                        why,
                    )),
                    Ok(Flow::Stay(state)) => {
                        Ok(Inside::Stay(Self { path, round, phase: Phase::Round(Box::new(state)) }))
                    }
                    Ok(Flow::Failed(failure)) => Ok(Inside::Failed(failure)),
                    Ok(Flow::Done(result)) => {
                        Ok(match Self::after(rounds, path, round, result, fx, &mut until) {
                            After::Is(inside) => inside,
                            After::Again => Self::rounds(rounds, path, round + 1, fx, enter, until),
                        })
                    }
                }
            }
        }
    }
}

/// How generated code enters a `repeat`, and offers it an event.
impl<S: Part> Composite<Repeat<S>> {
    /// See [`Repeat::start`].
    pub fn repeat<U: Undo, T>(
        rounds: Rounds,
        timeout_ms: Option<u64>,
        fx: &mut Fx<'_, U>,
        enter: impl FnMut(&mut Fx<'_, U>) -> Flow<S, T>,
        until: impl FnMut(&T, &mut Fx<'_, U>) -> Result<bool, Failure>,
    ) -> Flow<Self, T> {
        Self::start(rounds.node, timeout_ms, fx, |fx| Repeat::start(rounds, fx, enter, until))
    }

    /// See [`Repeat::apply`].
    pub fn apply_repeat<U: Undo, T>(
        self,
        rounds: Rounds,
        event: &StepEvent,
        fx: &mut Fx<'_, U>,
        apply: impl FnOnce(S, &mut Fx<'_, U>) -> Applied<S, T>,
        enter: impl FnMut(&mut Fx<'_, U>) -> Flow<S, T>,
        until: impl FnMut(&T, &mut Fx<'_, U>) -> Result<bool, Failure>,
    ) -> Applied<Self, T> {
        self.apply(event, fx, |repeat, fx| repeat.apply(rounds, event, fx, apply, enter, until))
    }
}

enum After<I> {
    Again,
    Is(I),
}

impl<S: Part> Part for Repeat<S> {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        match &self.phase {
            Phase::Round(state) => state.open(visit),
            Phase::Pause { until } => {
                visit(Open::Timer { path: self.path, timer: Timer::Sleep, due: *until })
            }
        }
    }
}
