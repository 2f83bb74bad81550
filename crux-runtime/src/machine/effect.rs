//! Effects: what the engine has to do after an event was applied. They are values; the engine
//! carries them out after the event is durable.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{Failure, Path};

/// Something for the engine to do. Its id is `<instance>/<seq>/<n>`, `n` its number in
/// [`Effects::all`].
#[derive(Debug, Clone)]
pub enum Effect {
    /// Hand out one attempt of a task.
    Dispatch {
        path: Path,
        attempt: u32,
        input: Arc<RawValue>,
        key: Option<Arc<str>>,
    },
    /// Running attempts of this task may stop: their cancellation tokens fire.
    Cancel {
        path: Path,
    },
    /// Publish under a routing key: an `emit`.
    Emit {
        path: Path,
        event: &'static str,
        routing_key: &'static str,
        data: Box<RawValue>,
    },
    /// Tell a hook of the instance's life.
    Hook {
        kind: Hook,
        routing_key: &'static str,
    },
    /// From now on events of that name (with that value in the correlating field) are for this
    /// step.
    Subscribe {
        path: Path,
        event: &'static str,
        value: Option<String>,
    },
    Unsubscribe {
        path: Path,
        event: &'static str,
        value: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Start,
    Complete,
    Failure,
}

/// What a follower receives and the journal row records beside its events: consequences that cannot
/// be read off the events alone.
#[derive(Debug, Clone)]
pub enum Note {
    StepStarted {
        path: Path,
        attempt: u32,
    },
    StepWaiting {
        path: Path,
        why: Waiting,
    },
    StepSkipped {
        path: Path,
    },
    /// A failure that a `catch` took, or that ended a group from inside; the step's result is
    /// absent from here on.
    StepFailed {
        path: Path,
        failure: Failure,
    },
    /// A composite step or one that takes no time is done.
    StepCompleted {
        path: Path,
    },
    Stopping {
        failure: Failure,
    },
    Undoing,
    Parked {
        failure: Failure,
    },
    Paused,
    Resumed,
    Ended(Ended),
}

#[derive(Debug, Clone)]
pub enum Waiting {
    Event { name: &'static str, value: Option<String> },
    Until(super::Time),
}

/// How an instance ended.
#[derive(Debug, Clone)]
pub enum Ended {
    Completed { output: Box<RawValue> },
    Failed { failure: Failure },
    Cancelled { failure: Failure },
}

/// The effects and notes of one event.
#[derive(Debug, Default)]
pub struct Effects {
    pub all: Vec<Effect>,
    pub notes: Vec<Note>,
    /// Elements and rounds begun so far: bounded, because those that take no time could follow one
    /// another endlessly.
    pub passes: u32,
    /// A list has more than [`super::MAX_ELEMENTS`] elements: the failure of its `each`.
    pub excess: Option<Failure>,
}

/// So many elements and rounds are begun in one transition, and so many notes made: then a loop
/// lets others go first, and goes on in the next. A single list of the greatest length that takes
/// no time still fits.
const PASSES_MAX: u32 = 10_000;
const NOTES_MAX: usize = 50_000;

impl Effects {
    pub fn clear(&mut self) {
        let Self { all, notes, passes, excess } = self;
        all.clear();
        notes.clear();
        *passes = 0;
        *excess = None;
    }

    /// Whether one more element or round may begin in this transition.
    pub(super) fn pass(&mut self) -> bool {
        let may_begin = self.passes < PASSES_MAX && self.notes.len() < NOTES_MAX;
        self.passes += u32::from(may_begin);
        may_begin
    }
}
