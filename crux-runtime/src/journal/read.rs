//! Rows in: as flat entries for documents and messages, and back to the machine's events for
//! replay.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::VERSION;
use crate::machine::{
    Cause, Definition, Event, Failure, Outcome, Path, Started, StepEvent, StepHappened, Time, Timer,
};

/// One transition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub v: u32,
    pub at: Time,
    pub events: Vec<Entry>,
    #[serde(default)]
    pub out: Vec<Entry>,
}

/// What an entry says; see the fields of [`Entry`] for what comes with it.
/// Rows are stored with the names that are read here; clients are shown those of live messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryType {
    // Events.
    Started,
    /// A worker or a service reported that it began.
    #[serde(rename(serialize = "step_started"))]
    StepBegan,
    StepCompleted,
    /// As event: an attempt failed (`next`: the next one's time); in `out`: a step failed without
    /// a separate attempt.
    StepFailed,
    TaskLost,
    /// Given back before it began, by a process that was ending.
    TaskReturned,
    TimerFired,
    EventReceived,
    StopRequested,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    UndoRequested,
    FailRequested,
    ParkRequested,
    // Consequences.
    /// An attempt was handed out.
    #[serde(rename(serialize = "step_dispatched"))]
    StepStarted,
    StepWaiting,
    StepSkipped,
    /// A composite step, or one that takes no time, is done.
    StepDone,
    WorkflowStopping,
    WorkflowUndoing,
    WorkflowParked,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowCancelled,
}

/// One event or consequence, flat: which fields are there depends on [`Self::kind`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    #[serde(rename = "type")]
    pub kind: EntryType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Started>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The name of the event that a step waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The value that the event's correlating field must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<RawValue>>,
}

/// A row that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the journal row is not valid: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the journal row has version {0}, this binary reads up to {VERSION}")]
    Newer(u32),
    #[error("the journal names the step `{path}`, which definition {definition} does not have")]
    UnknownStep { path: String, definition: &'static str },
    #[error("the journal entry {0:?} lacks a field")]
    Incomplete(EntryType),
}

impl Row {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let row: Self = serde_json::from_str(text)?;
        if row.v > VERSION { Err(Error::Newer(row.v)) } else { Ok(row) }
    }
}

impl Entry {
    /// The machine's event; only for entries of [`Row::events`].
    pub fn into_event(self, definition: &'static Definition) -> Result<Event, Error> {
        let lacks = Error::Incomplete(self.kind);
        let event = match self.kind {
            EntryType::Started => Event::Started(self.started.ok_or(lacks)?),
            EntryType::StopRequested => Event::StopRequested {
                cause: self.cause.ok_or(lacks)?,
                reason: self.reason.unwrap_or_default(),
            },
            EntryType::PauseRequested => Event::PauseRequested,
            EntryType::ResumeRequested => Event::ResumeRequested,
            EntryType::RetryRequested => {
                let step = self.path.as_deref().map(|path| step(definition, path)).transpose()?;
                Event::RetryRequested { step, input: self.input }
            }
            EntryType::UndoRequested => Event::UndoRequested,
            EntryType::FailRequested => {
                Event::FailRequested { reason: self.reason.unwrap_or_default() }
            }
            EntryType::ParkRequested => Event::ParkRequested { failure: self.error.ok_or(lacks)? },
            _ => return self.into_step_event(definition, lacks),
        };
        Ok(event)
    }

    fn into_step_event(
        self,
        definition: &'static Definition,
        lacks: Error,
    ) -> Result<Event, Error> {
        let Some(path) = self.path.as_deref() else { return Err(lacks) };
        let path = step(definition, path)?;
        let what = match (self.kind, self.attempt) {
            (EntryType::StepBegan, Some(attempt)) => StepHappened::Started { attempt },
            (EntryType::StepCompleted, attempt) => {
                StepHappened::Completed { attempt, result: self.result.ok_or(lacks)? }
            }
            (EntryType::StepFailed, Some(attempt)) => StepHappened::Failed {
                attempt,
                outcome: self.outcome.unwrap_or(Outcome::Failed),
                failure: self.error.ok_or(lacks)?,
                next: self.next,
            },
            (EntryType::TaskLost, Some(attempt)) => {
                StepHappened::Lost { attempt, next: self.next.ok_or(lacks)? }
            }
            (EntryType::TaskReturned, Some(attempt)) => {
                StepHappened::Returned { attempt, next: self.next.ok_or(lacks)? }
            }
            (EntryType::TimerFired, _) => {
                StepHappened::TimerFired { timer: self.timer.ok_or(lacks)? }
            }
            (EntryType::EventReceived, _) => {
                let Some(data) = self.data else { return Err(lacks) };
                StepHappened::Received { event_id: self.event_id.ok_or(lacks)?, data }
            }
            _ => return Err(lacks),
        };
        Ok(Event::Step(StepEvent { path, what }))
    }
}

fn step(definition: &'static Definition, path: &str) -> Result<Path, Error> {
    definition
        .parse_path(path)
        .ok_or_else(|| Error::UnknownStep { path: path.to_owned(), definition: definition.hash })
}
