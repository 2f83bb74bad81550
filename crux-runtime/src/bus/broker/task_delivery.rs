//! Delivery of step struct tasks to worker processes: how a task is encoded, and the trait of its
//! handler.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tracing::warn;

use crate::bus::broker::status::State;
use crate::bus::broker::worker_registry::AttemptIds;
use crate::bus::routing_keys::work_key;
use crate::bus::{Broker, Message, session};
use crate::executor::Cancellation;
use crate::id::{InstanceId, StepId};
use crate::machine::{Contract, Path, Policy};
use crate::supervise;
use crate::task::{Origin, Task};

/// A task as a broker delivered it.
pub struct Delivery {
    pub body: Bytes,
    /// Whether it was delivered before and not acknowledged.
    pub is_again: bool,
    pub receipt: Box<dyn Receipt>,
}

/// Acknowledges or requeues a delivery. Dropped: the broker redelivers it when the connection ends.
pub trait Receipt: Send + 'static {
    /// Acknowledges it. `false`: that failed; the broker delivers the task again.
    fn done(self: Box<Self>) -> BoxFuture<'static, bool>;

    /// Requeues it for another worker: it has not begun here.
    fn give_back(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// How many more attempts a worker may begin. A worker with `--concurrency 4` that runs three has
/// `free: 1`; at 0 nothing is fetched, so that tasks stay in the queue for other workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Attempts that may begin now.
    pub free: usize,
    /// The worker shuts down: it takes nothing more.
    pub is_closed: bool,
}

/// What a handler did with a delivery.
pub enum TaskDisposition {
    Accepted,
    /// No capacity now: requeue it.
    NoCapacity(Delivery),
    /// It cannot be decoded; the reason is for people.
    DeadLetter(Delivery, String),
}

/// Handles tasks of step structs in a worker process.
pub trait TaskHandler: Send + Sync + 'static {
    /// The step types whose tasks it takes.
    fn step_types(&self) -> Vec<&'static str>;

    /// Whether tasks of that type must not begin twice, so that one that is delivered again is as
    /// good as lost.
    fn is_once(&self, step_type: &str) -> bool;

    /// For tasks of that type. Nothing is fetched without capacity, so that tasks stay where other
    /// workers find them.
    fn capacity(&self, step_type: &'static str) -> watch::Receiver<Capacity>;

    fn handle(self: Arc<Self>, delivery: Delivery) -> TaskDisposition;

    /// Its result is no longer awaited.
    fn cancel(&self, working: AttemptIds);
}

/// A task that cannot be decoded: it belongs into the dead-letter queue.
pub(in crate::bus) struct RejectedTask {
    pub(in crate::bus) body: Bytes,
    pub(in crate::bus) receipt: Box<dyn Receipt>,
    pub(in crate::bus) reason: String,
}

/// Gives a task to the handler, or requeues it if there is no capacity. `Some`: it is to be put into
/// the dead-letter queue, and then [`acknowledge_dead_letter`].
pub(in crate::bus) async fn deliver(
    handler: &Arc<dyn TaskHandler>,
    queue: &str,
    delivery: Delivery,
) -> Option<RejectedTask> {
    match handler.clone().handle(delivery) {
        TaskDisposition::Accepted => None,
        TaskDisposition::NoCapacity(delivery) => {
            delivery.receipt.give_back().await;
            None
        }
        TaskDisposition::DeadLetter(Delivery { body, receipt, .. }, reason) => {
            Some(RejectedTask::new(queue, body, receipt, reason))
        }
    }
}

impl RejectedTask {
    pub(in crate::bus) fn new(
        queue: &str,
        body: Bytes,
        receipt: Box<dyn Receipt>,
        reason: String,
    ) -> Self {
        warn!(queue, reason, "message rejected and dead-lettered");
        Self { body, receipt, reason }
    }
}

/// Acknowledges a task that is in the dead-letter queue now.
pub(in crate::bus) async fn acknowledge_dead_letter(state: &State, receipt: Box<dyn Receipt>) {
    state.dead.fetch_add(1, Ordering::Relaxed);
    receipt.done().await;
}

/// Handles a message under [`crate::bus::routing_keys::CANCELLED`].
pub(in crate::bus) fn cancel(handler: &dyn TaskHandler, text: &[u8]) {
    match serde_json::from_slice(text) {
        Ok(working) => handler.cancel(working),
        Err(error) => tracing::debug!(%error, "a cancellation cannot be decoded"),
    }
}

/// A task, read.
#[derive(Debug, Deserialize)]
pub struct Order {
    pub workflow_id: InstanceId,
    pub step_id: StepId,
    pub step_type: String,
    pub attempt: u32,
    pub(crate) key: String,
    pub(crate) input: Box<RawValue>,
    pub(crate) payload: Option<Box<RawValue>>,
    pub(crate) workflow: String,
    pub path: String,
    pub request_id: String,
    pub traceparent: String,
    /// The heartbeat timeout.
    pub heartbeat_ms: Option<u64>,
    /// It must not begin twice.
    pub once: bool,
}

impl Order {
    /// As [`Origin::correlation_id`].
    pub fn correlation_id(&self) -> String {
        if self.request_id.is_empty() {
            self.workflow_id.to_string()
        } else {
            self.request_id.clone()
        }
    }

    pub fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body)
            .map_err(|error| format!("this is not a task of a step struct: {error}"))
    }

    pub fn working(&self) -> AttemptIds {
        AttemptIds(self.workflow_id, self.step_id, self.attempt)
    }

    /// The message id: unique per attempt.
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.workflow_id, self.step_id, self.attempt)
    }

    /// As workers run it.
    pub fn task(self, contract: &'static Contract) -> Task {
        let nothing = || RawValue::NULL.to_owned();
        let origin = Origin {
            workflow: Cow::Owned(self.workflow),
            workflow_id: self.workflow_id.to_string(),
            request_id: self.request_id,
            traceparent: self.traceparent,
            tokens: None,
            payload: Arc::from(self.payload.unwrap_or_else(nothing)),
        };
        Task {
            instance: self.workflow_id,
            // Only the engine knows its own numbers of steps.
            path: Path::new(0),
            path_text: Cow::Owned(self.path),
            attempt: self.attempt,
            contract,
            // Timeouts are the engine's; the process sends heartbeats for all its attempts
            // together.
            policy: const { &Policy::ONCE },
            input: Arc::from(self.input),
            own_key: Some(Arc::from(self.key)),
            heartbeat_ms: self.heartbeat_ms,
            origin: Arc::new(origin),
            cancellation: Cancellation::default(),
        }
    }
}

/// The same task once more, for its queue.
pub(crate) fn copy(contract: &'static Contract, order: &Order, body: &Bytes) -> Option<Message> {
    let body = RawValue::from_string(String::from_utf8(body.to_vec()).ok()?).ok()?;
    Some(Message {
        routing_key: work_key(contract.step_type),
        id: order.id(),
        correlation_id: order.correlation_id(),
        traceparent: order.traceparent.clone(),
        body,
    })
}

impl Broker {
    /// Begins to fetch tasks for `handler`; ends when there will be no more room and everything
    /// fetched is either taken or given back.
    pub fn fetch(&self, handler: Arc<dyn TaskHandler>) {
        let (taker, stopping) = (handler.clone(), self.stopping());
        let is_stopping = move || {
            let is_closed = |step_type| {
                let capacity = taker.capacity(step_type);
                capacity.has_changed().is_err() || capacity.borrow().is_closed
            };
            session::is_stopping(&stopping) || taker.step_types().into_iter().all(is_closed)
        };
        let fetching = self.consumer().fetch(handler);
        self.keep(supervise::keep_running("fetching tasks", is_stopping, fetching));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::http::tests::{CLASS, task};
    use crate::bus::task_body::task_body;

    #[test]
    fn a_task_is_the_same_at_the_worker() {
        let task = Task {
            heartbeat_ms: Some(500),
            path_text: Cow::Borrowed("ship[3]/label"),
            attempt: 2,
            ..task(&CLASS).0
        };
        let order = Order::parse(&task_body(&task, &task.key()).unwrap()).unwrap();
        assert_eq!(order.working(), AttemptIds(task.instance, task.step_id(), 2));
        assert_eq!((order.heartbeat_ms, order.once), (Some(500), false));
        let again = order.task(&CLASS);
        assert_eq!(
            (again.key(), again.task_id(), again.step_id()),
            (task.key(), task.task_id(), task.step_id())
        );
        assert_eq!((again.input.get(), again.heartbeat_ms), (task.input.get(), Some(500)));
        let (there, here) = (&again.origin, &task.origin);
        assert_eq!(
            (&there.workflow, &there.request_id, &there.traceparent),
            (&here.workflow, &here.request_id, &here.traceparent)
        );
        assert_eq!(there.payload.get(), here.payload.get());
    }

    #[test]
    fn what_is_no_task_is_refused() {
        let (task, _) = task(&CLASS);
        let body = String::from_utf8(task_body(&task, &task.key()).unwrap()).unwrap();
        assert!(
            Order::parse(body.replace("\"once\"", "\"twice\"").as_bytes())
                .unwrap_err()
                .contains("missing field `once`")
        );
        assert!(Order::parse(b"{}").is_err());
    }
}
