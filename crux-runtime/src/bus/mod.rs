//! The bus: transport of tasks to services and workers, and of hooks and emitted events to their
//! subscribers. It knows tasks and messages, not the engine.
//!
//! [`http`] needs no broker: tasks and messages are pushed to configured services; nor does
//! [`attached`], for services and workers that come to the server themselves. [`broker`] is
//! what all broker-based buses share; [`rabbitmq`] and [`redis_streams`] are brokers. A broker also
//! carries tasks of step structs to workers in other processes ([`broker::task_delivery`]), which
//! it tracks by their heartbeats ([`broker::worker_registry`]). `session` is the connection loop.
//! An [`event_source::EventSource`] brings messages and carries no tasks.

pub(crate) mod attached;
pub mod broker;
pub mod event_source;
pub mod http;
mod pattern;
pub mod rabbitmq;
pub mod redis_streams;
pub(crate) mod routing_keys;
pub(crate) mod session;
mod task_body;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};

use crate::bus::broker::worker_registry::{AttemptIds, WorkerRegistry};
use broker::Broker;

use crate::task::{Report, Task};

/// A hook call or an emitted event to publish under a routing key.
#[derive(Debug, Clone)]
pub struct Message {
    pub routing_key: &'static str,
    /// `<instance>/<seq>/<n>`: the same whenever it is published again.
    pub id: String,
    /// The instance's request id, or its own id if its client gave none.
    pub correlation_id: String,
    pub traceparent: String,
    pub body: Box<RawValue>,
}

/// The result of publishing a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The broker or every subscriber has it, or there is no subscriber.
    Confirmed,
    /// Not published; the engine publishes it again. The reason is shown to people.
    Failed(String),
}

/// A way to services.
pub trait Bus: Send + Sync + 'static {
    /// Takes a task for its service without waiting, or gives it back when there is no room. The
    /// answer comes as [`Report`]s with the task's path and attempt: at least one that says that it
    /// was delivered or not, or how it ended, for until then the attempt's time does not count.
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task>;

    /// Whether messages under that key may have subscribers; if not, none needs to be made.
    fn wants(&self, routing_key: &str) -> bool;

    /// Queues a message without waiting, or returns it. `done` is called with the result.
    fn publish(
        &self,
        message: Message,
        done: Box<dyn FnOnce(PublishOutcome) + Send>,
    ) -> Result<(), Message>;

    /// Shown in `/health`: whether it works, and if not why.
    fn health(&self) -> Result<(), String>;

    /// Why what it has taken is not out yet — tasks of that step type, or hooks and events; `None`:
    /// nothing holds them up.
    fn delay(&self, _step_type: Option<&str>) -> Option<String> {
        None
    }

    /// Why messages under that key are not out yet that it has taken; `None`: nothing holds them
    /// up.
    fn held(&self, _routing_key: &str) -> Option<String> {
        None
    }

    /// Changes when a service is back that turned away tasks or messages for a while: what waits for
    /// its pause should come now. `None`: this bus does not know.
    fn back(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Why nothing new should be started that needs the bus: what it has taken already does not get
    /// out.
    fn congestion(&self) -> Option<String> {
        None
    }

    /// The workers in other processes; `None`: this bus carries no tasks of step structs.
    fn worker_registry(&self) -> Option<&WorkerRegistry> {
        None
    }

    /// Cancels an attempt of a step struct in another process: tells its worker, if it can.
    fn cancel(&self, _working: AttemptIds) {}

    /// Shown in `/health`: why messages are parked that cannot be handled yet; `None`: there are
    /// none.
    fn parked(&self) -> Option<String> {
        None
    }

    /// Shown in `/metrics`.
    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }

    /// The process is about to end: what must not be handed out twice and waits for its turn is
    /// given back.
    fn drain(&self) {}

    /// Accepts nothing more, and ends when everything accepted is published. What is not published
    /// when the process ends is published again later.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// One metric at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// `bus_published`; the same for all metrics that differ in the routing key only, which stand
    /// together.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricKind,
    pub value: u64,
    /// The routing key it is about, if not all.
    pub routing_key: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
}

/// A message that a broker delivered.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub routing_key: String,
    pub message_id: Option<String>,
    /// Of its sender; may be empty.
    pub correlation_id: String,
    /// As it was sent; may be empty, or nonsense.
    pub traceparent: String,
    pub body: Bytes,
}

/// What the broker should do with a delivered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Durable, or without effect: acknowledge it.
    Ack,
    /// It can never be handled; the reason is for people.
    DeadLetter(String),
    /// It cannot be handled now, and neither can any other message.
    RetryLater(String),
    /// It cannot be handled now because of the instance that it is about.
    WaitForInstance(String),
    /// The process stops: another process should get it.
    Requeue,
}

/// Handles the messages that a broker delivers.
pub trait MessageHandler: Send + Sync + 'static {
    fn handle<'a>(&'a self, incoming: &'a Incoming) -> BoxFuture<'a, Disposition>;
}
