//! Events: what an instance's journal holds. An event is past tense, carries everything that its
//! consequences depend on (also what was decided from policies, clocks and configuration), and is
//! applied in the same way when it is new and when it is replayed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Failure, Path, Time};

/// One event of an instance.
#[derive(Debug, Clone)]
pub enum Event {
    Started(Started),
    /// Addressed to one step.
    Step(StepEvent),
    /// A person, or the deadline, cancels the instance.
    StopRequested {
        cause: Cause,
        reason: String,
    },
    PauseRequested,
    ResumeRequested,
    /// Try what is exhausted again: one step, or all; with corrected input if given.
    RetryRequested {
        step: Option<Path>,
        input: Option<Box<RawValue>>,
    },
    /// Of a parked instance: undo what was done, then end.
    UndoRequested,
    /// Of a parked instance: end as failed without undoing.
    FailRequested {
        reason: String,
    },
    /// The journal reached its limit, or another reason of the engine's to stop without undoing; a
    /// person chooses.
    ParkRequested {
        failure: Failure,
    },
}

/// The first event of every journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    pub workflow: String,
    pub version: u32,
    /// [`super::Definition::hash`].
    pub definition: String,
    pub input: Box<RawValue>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// The configuration values that the workflow's expressions read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Who started it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// What started it: `http POST /api/v1/workflow/order`, `event order.created`, `cli`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trigger: String,
    /// W3C trace context of the start.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
}

/// An event for one step.
#[derive(Debug, Clone)]
pub struct StepEvent {
    pub path: Path,
    pub what: StepHappened,
}

#[derive(Debug, Clone)]
pub enum StepHappened {
    /// A worker reported that it began; journalled only for services that report it.
    Started { attempt: u32 },
    /// From any attempt, also an earlier one; `None`: the sender did not say which.
    Completed { attempt: Option<u32>, result: Box<RawValue> },
    /// From the current attempt. `next`: when the next attempt goes out; `None`: this was the last.
    Failed { attempt: u32, outcome: Outcome, failure: Failure, next: Option<Time> },
    /// The worker died with the attempt; it goes out again at `next` without using one up.
    Lost { attempt: u32, next: Time },
    /// The process that was to run the attempt is ending and gave it back before it began; it goes
    /// out again at `next`, by another process.
    Returned { attempt: u32, next: Time },
    /// A sleep, the pause between rounds, a retry's back-off or a timeout of something other than
    /// a task ended.
    TimerFired { timer: Timer },
    /// An event for which the step waits.
    Received { event_id: String, data: Box<RawValue> },
    /// Inside [`Event::RetryRequested`] only: dispatch again.
    Retry { input: Option<Box<RawValue>> },
}

/// The failure of an attempt, and what is known of its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It surely did not happen.
    Failed,
    /// It may have happened: timed out or lost.
    Unknown,
}

/// Which timer of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// The next attempt is due.
    Retry,
    /// A `sleep`, or the pause between rounds of a `repeat`.
    Sleep,
    /// The timeout of a wait, group, parallel, each or repeat.
    Timeout,
    /// A task's attempt was not started in time (`queue`).
    Queue,
    /// A task's attempt ran too long (`run`).
    Run,
    /// A task's worker fell silent (`heartbeat`).
    Heartbeat,
    /// A task took too long over all attempts (`total`).
    Total,
    /// The workflow's `deadline`.
    Deadline,
}

/// Why an instance stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Failed,
    Cancelled,
    Deadline,
}
