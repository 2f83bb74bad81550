//! Requests of ingress, workers and the command line to the engine, and its responses. Their form
//! on the wire is ingress's business.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{InstanceId, StepId};
use crate::machine::{AttemptFailed, Failure};
use crate::store::{self, NodeNumber};

/// A request to start an instance.
#[derive(Debug, Clone)]
pub struct Start {
    pub workflow: String,
    /// Of the workflow's input type; checked by the engine.
    pub input: Box<RawValue>,
    /// Given by the client, or derived from the trigger; the same id with the same input gets the
    /// first response again.
    pub request_id: Option<String>,
    /// The client: scope of request ids and owner of the instance. Empty without authentication.
    pub owner: String,
    /// The trigger, for the journal: `http POST /api/v1/workflow/order`.
    pub trigger: String,
    /// W3C trace context; may be empty.
    pub traceparent: String,
}

/// An instance that has been started, now or by an earlier request of the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartAccepted {
    pub instance: InstanceId,
    /// Whether an earlier request had started it.
    pub replayed: bool,
}

impl std::fmt::Display for StepRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StepRef::Id(id) => id.fmt(f),
            StepRef::Path(path) => f.write_str(path),
        }
    }
}

/// Which step a message is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepRef {
    Id(StepId),
    /// `ship[3]/label`.
    Path(String),
}

/// A result or a failure of an attempt, reported from outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Completion {
    pub instance: InstanceId,
    pub step: StepRef,
    /// If given, it must be the step's type.
    pub step_type: Option<String>,
    pub attempt: Option<u32>,
    pub outcome: Result<Box<RawValue>, AttemptFailed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompletionOutcome {
    Accepted,
    /// The same result had been reported before.
    Duplicate,
    /// A failure of an attempt that is not the current one: nothing changes.
    Superseded,
}

/// A heartbeat of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    pub instance: InstanceId,
    pub step: StepRef,
    /// If given, it must be the step's type.
    #[serde(default)]
    pub step_type: Option<String>,
    pub attempt: Option<u32>,
    pub what: ProgressKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgressKind {
    Began,
    Heartbeat,
}

/// A command from a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    Cancel {
        reason: String,
    },
    Pause,
    Resume,
    /// All failed steps, or one; with a corrected input for it.
    Retry {
        step: Option<StepRef>,
        input: Option<Box<RawValue>>,
    },
    Undo,
    Fail {
        reason: String,
    },
}

/// An event from outside.
#[derive(Debug, Clone)]
pub struct IncomingEvent {
    pub name: String,
    /// Unique per name; without one the event is taken as new.
    pub id: Option<String>,
    pub data: Box<RawValue>,
    pub owner: String,
    pub traceparent: String,
}

/// An event that has been stored. Its starts and deliveries follow, also after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventAccepted {
    pub id: String,
    /// Whether an event of that name and id had been taken before; then this one changed nothing.
    pub duplicate: bool,
}

/// Undelivered tasks and messages that are being retried, each with the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undelivered {
    /// Tasks by their step's path: `no service listens on step.x`.
    pub tasks: Vec<(String, String)>,
    /// Hooks and emitted events by their routing key.
    pub messages: Vec<(String, String)>,
    /// Why the instance cannot continue: no node has its definition.
    #[serde(default)]
    pub blocked: Option<String>,
}

/// Why the engine refused a request. Nothing has changed then, except for [`Error::Store`] with an
/// unknown outcome.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    #[error("there is no workflow `{name}`{hint}")]
    UnknownWorkflow { name: String, hint: String },
    #[error("there is no event `{name}`{hint}")]
    UnknownEvent { name: String, hint: String },
    #[error("instance {0} not found; ended instances are deleted after their retention period")]
    UnknownInstance(InstanceId),
    #[error("the instance has no step {0}")]
    UnknownStep(String),
    #[error("the step is of type `{is}`, not `{said}`")]
    WrongStepType { is: String, said: String },
    /// The step is not open: it has not begun, or it has ended. The handle reads the journal to
    /// tell which.
    #[error("the step is not open")]
    NotOpen,
    /// Not an error to callers of the handle: the request id has started this instance before.
    #[error("the request id was used for {0}")]
    Replayed(InstanceId),
    /// Its owner node could not be reached.
    #[error("node {node} owns the instance and does not answer; retry in a moment")]
    OwnerUnreachable { node: NodeNumber },
    /// Another append came first; nothing was done.
    #[error("the instance was modified concurrently; retry")]
    ConcurrentModification,
    /// The text names the path of the field.
    #[error("{0}")]
    Invalid(String),
    /// The same request id or step, with different content.
    #[error("{0}")]
    Conflict(String),
    /// The state of the instance or step does not allow it; the text says what does.
    #[error("{0}")]
    InvalidState(String),
    /// This binary does not have the instance's definition.
    #[error(
        "the instance runs definition {definition} of `{workflow}` version {version}, which this binary does not have: deploy one that does"
    )]
    DefinitionMissing { workflow: String, version: u32, definition: String },
    /// Admission control: too many instances are unsettled, or the disk is nearly full.
    #[error("{reason}; try again in {retry_after_s} s")]
    Overloaded { reason: String, retry_after_s: u32 },
    #[error("a limit was passed: {0}")]
    Limit(String),
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A bug; the journal has the details.
    #[error("the instance is corrupted: {0}")]
    Corrupted(Failure),
    #[error("the engine is shutting down")]
    ShuttingDown,
}

impl Error {
    /// Whether the same may work in a moment.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Error::Overloaded { .. }
                | Error::OwnerUnreachable { .. }
                | Error::ConcurrentModification
                | Error::Store(store::Error::Full(_) | store::Error::Unavailable(_))
        )
    }
}
