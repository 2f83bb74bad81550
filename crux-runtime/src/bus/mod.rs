//! The bus: how tasks reach services and how hooks and emitted events leave. It knows tasks and messages, not the engine.
//!
//! [`local`] needs no broker: services get tasks by HTTP push (`push`), what they answer is read by `answer`, and messages are posted to
//! those that listen (`listeners`, `pattern`).

pub(crate) mod answer;
mod body;
mod listeners;
pub mod local;
mod pattern;
mod push;

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::worker::task::{Report, Task};

/// A hook call or an emitted event to publish under a routing key.
#[derive(Debug, Clone)]
pub struct Message {
    pub routing_key: &'static str,
    /// `<instance>/<seq>/<n>`: the same whenever it is published again.
    pub id: String,
    /// The instance's request id.
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
    /// Takes a task for its service without waiting, or gives it back when there is no room. The answer comes as [`Report`]s with
    /// the task's path and attempt: at least one that says that it was delivered or not, or how it ended, for until then the
    /// attempt's time does not count.
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task>;

    /// Whether somebody may want messages under that key; if not, none needs to be made.
    fn wants(&self, routing_key: &str) -> bool;

    /// Takes a message without waiting, or gives it back. `done` hears what became of it.
    fn publish(&self, message: Message, done: Box<dyn FnOnce(Published) + Send>) -> Result<(), Message>;

    /// Shown in `/health`: whether it works, and if not why.
    fn health(&self) -> Result<(), String>;
}
