//! The bus: how tasks reach services and how hooks and emitted events leave. It knows tasks and
//! messages, not the engine.
//!
//! [`local`] needs no broker: services get tasks by HTTP push (`push`), what they answer is read by
//! `answer`, and messages are posted to those that listen (`listeners`, `pattern`); `gate` says
//! when a service is left alone. [`broker`] is what all brokers have in common, beside it `letter`
//! (what is published), `keys`, `state` and `backoff`; [`rabbitmq`] and [`redis`] (its streams) are
//! brokers. Brokers can also carry tasks of step structs to workers in other processes: [`work`] is
//! those tasks at the worker, [`roster`] what nodes know of the workers.

pub mod broker;
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

use crate::bus::broker::worker_registry::{Roster, Working};
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

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is out, or nobody is there who could want it.
    Done,
    /// It is not out; it is offered again. The reason is shown to people.
    Failed(String),
}

/// A way to services.
pub trait Bus: Send + Sync + 'static {
    /// Takes a task for its service without waiting, or gives it back when there is no room. The
    /// answer comes as [`Report`]s with the task's path and attempt: at least one that says that it
    /// was delivered or not, or how it ended, for until then the attempt's time does not count.
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task>;

    /// Whether somebody may want messages under that key; if not, none needs to be made.
    fn wants(&self, routing_key: &str) -> bool;

    /// Takes a message without waiting, or gives it back. `done` hears what became of it.
    fn publish(
        &self,
        message: Message,
        done: Box<dyn FnOnce(Published) + Send>,
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

    /// Changes when somebody is back who turned away tasks or messages for a while: what waits for
    /// its pause should come now. `None`: this bus does not know.
    fn back(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Why nothing new should be started that needs the bus: what it has taken already does not get
    /// out.
    fn congestion(&self) -> Option<String> {
        None
    }

    /// Who works in processes of their own; `None`: nobody can, for tasks of step structs do not
    /// leave by this bus.
    fn roster(&self) -> Option<&Roster> {
        None
    }

    /// Nobody waits any more for an attempt of a step struct in another process: lets its worker
    /// know, if it can.
    fn cancel(&self, _working: Working) {}

    /// Shown in `/health`: why messages are put aside for a while that cannot be taken yet; `None`:
    /// there are none.
    fn parked(&self) -> Option<String> {
        None
    }

    /// Shown in `/metrics`.
    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }

    /// The process is about to end: what must not be handed out twice and waits for its turn is
    /// given back.
    fn drain(&self) {}

    /// Takes in nothing more, and ends when what was given to it is out. What is not out when the
    /// process ends comes again.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// One figure at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// `bus_published`; the same for all figures that differ in the routing key only, which stand
    /// together.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: FigureKind,
    pub value: u64,
    /// What it is about, if not everything.
    pub routing_key: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureKind {
    Counter,
    Gauge,
}

/// A message that a broker brought.
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

/// What became of a message that a broker brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is durable, or it changes nothing: the broker may forget it.
    Done,
    /// It will never be of use; the reason is for people.
    Refused(String),
    /// Not now, and neither would anything else be taken.
    Later(String),
    /// Not now, because of the one instance that it is about.
    Held(String),
    /// The process stops: another one should have it.
    Closing,
}

/// Where messages of a broker go.
pub trait Door: Send + Sync + 'static {
    fn take<'a>(&'a self, incoming: &'a Incoming) -> BoxFuture<'a, Taken>;
}
