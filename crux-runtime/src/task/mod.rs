//! One attempt's work order, as the engine dispatches it to the executor or the bus, and the
//! reports that come back.

pub(crate) mod cancellation;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::id::{InstanceId, StepId};
use crate::machine::{AttemptFailed, Contract, EffectKind, Path, Policy};
use crate::task::cancellation::Cancellation;
use crate::token::TokenSigner;

/// One attempt of one step.
#[derive(Debug, Clone)]
pub struct Task {
    pub instance: InstanceId,
    pub path: Path,
    /// `ship[3]/label`.
    pub path_text: Cow<'static, str>,
    /// From 1.
    pub attempt: u32,
    pub contract: &'static Contract,
    /// Timeouts are the engine's; workers read the heartbeat interval, and what bounds a call.
    pub policy: &'static Policy,
    pub input: Arc<RawValue>,
    /// The step's own idempotency key; without one see [`Self::key`].
    pub own_key: Option<Arc<str>>,
    /// The heartbeat timeout, if the attempt runs in another process: without heartbeats for so
    /// long its worker counts as dead.
    pub heartbeat_ms: Option<u64>,
    pub origin: Arc<Origin>,
    /// Fires when the attempt is no longer needed.
    pub cancellation: Cancellation,
}

/// What all tasks of an instance share.
#[derive(Debug)]
pub struct Origin {
    pub workflow: Cow<'static, str>,
    pub workflow_id: String,
    pub request_id: String,
    pub traceparent: String,
    /// The instance's input as it was recorded.
    pub payload: Arc<RawValue>,
    /// Signs the tokens of tasks; `None`: reporting needs none.
    pub tokens: Option<Arc<TokenSigner>>,
}

impl Origin {
    /// By which logs and messages of all systems know the instance: what its client called the
    /// request, and without that its own id.
    pub fn correlation_id(&self) -> &str {
        if self.request_id.is_empty() { &self.workflow_id } else { &self.request_id }
    }
}

impl Task {
    pub fn step_id(&self) -> StepId {
        self.instance.step(&self.path_text)
    }

    /// The idempotency key: the same for every attempt.
    pub fn key(&self) -> String {
        match &self.own_key {
            Some(key) => key.to_string(),
            None => format!("{}/{}", self.origin.workflow_id, self.path_text),
        }
    }

    /// With it a service may report about this attempt, and do nothing else.
    pub(crate) fn completion_token(&self) -> Option<String> {
        let tokens = self.origin.tokens.as_ref()?;
        Some(tokens.report(self.instance, self.step_id(), self.attempt))
    }

    /// Whether an attempt of unknown outcome forbids another one.
    pub fn is_once(&self) -> bool {
        self.contract.effect == EffectKind::Once && self.own_key.is_none()
    }

    /// Completes when the attempt is no longer needed.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// Unique per attempt, the same if it is sent twice: the message id.
    pub fn task_id(&self) -> String {
        format!("{}/{}/{}", self.origin.workflow_id, self.path_text, self.attempt)
    }
}

/// A report about an attempt, to the engine.
#[derive(Debug)]
pub struct Report {
    pub instance: InstanceId,
    pub path: Path,
    pub attempt: u32,
    pub what: Reported,
}

#[derive(Debug)]
pub enum Reported {
    /// A service has the task; its result comes later, separately.
    Delivered,
    /// The task was not accepted; no attempt is used up, and it is dispatched again.
    Undelivered {
        reason: String,
        /// The minimum delay before the next attempt.
        after_ms: Option<u64>,
    },
    /// The process is ending and the attempt has not begun: another process runs it.
    Returned,
    /// The worker began to run it; from now on its `run` timeout counts.
    Began,
    /// The worker is alive and runs it.
    Heartbeat,
    Completed {
        result: Box<RawValue>,
    },
    Failed(AttemptFailed),
}
