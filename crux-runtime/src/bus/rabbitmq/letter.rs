//! A message on its way to the broker, and whoever hears what became of it.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, MAX_SHORT_STRING_LENGTH, ShortString};
use tokio::sync::mpsc;

use crate::bus::body::task_body;
use crate::bus::{Message, Published};
use crate::machine::{AttemptFailed, Failure, Outcome, Runs};
use crate::worker::Cancellation;
use crate::worker::lane::{self, Job, ReplyTo};
use crate::worker::task::{Report, Reported, Task};

const PERSISTENT: u8 = 2;

pub(super) type Done = Box<dyn FnOnce(Published) + Send>;

/// What the publisher is given.
pub(super) enum Post {
    Task {
        task: Task,
        reports: mpsc::Sender<Report>,
    },
    Message {
        message: Message,
        done: Done,
    },
    /// A message that was refused, for the queue of such.
    Dead {
        body: Bytes,
        properties: Box<BasicProperties>,
        done: Done,
    },
}

/// Where a letter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The exchange, and comes back if no queue is bound to the key.
    Service(&'static str),
    /// The exchange, whoever listens.
    Anybody(&'static str),
    Dead,
}

/// Ready to be published, as often as it takes.
pub(super) struct Letter {
    pub(super) to: To,
    /// The same however often it is published.
    pub(super) id: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    /// How often a queue has not taken it.
    pub(super) refusals: u32,
    sender: Sender,
}

enum Sender {
    Task { reply: ReplyTo, cancellation: Cancellation },
    Message(Done),
}

impl Letter {
    /// `None`: nobody waits for it any more, or it cannot be written; whoever sent it has been told.
    pub(super) async fn new(post: Post) -> Option<Self> {
        match post {
            Post::Task { task, reports } => Self::of_task(task, reports).await,
            Post::Message { message, done } => {
                let Message { routing_key, id, correlation_id, traceparent, body } = message;
                let body = Bytes::from(String::from(Box::<str>::from(body)).into_bytes());
                Some(Self::new_to(To::Anybody(routing_key), id, &correlation_id, &traceparent, body, Sender::Message(done)))
            }
            Post::Dead { body, properties, done } => {
                let id = properties.message_id().as_ref().map_or_else(String::new, ToString::to_string);
                let properties = properties.with_delivery_mode(PERSISTENT);
                Some(Self { to: To::Dead, id, properties, body, refusals: 0, sender: Sender::Message(done) })
            }
        }
    }

    async fn of_task(task: Task, reports: mpsc::Sender<Report>) -> Option<Self> {
        let not_begun = lane::not_begun(&task);
        let body = task_body(&task, &task.key());
        let (task, reply) = Job { task, reports }.split();
        if let Some(reported) = not_begun {
            reply.send(reported).await;
            return None;
        }
        let routing_key = match task.contract.runs {
            Runs::Service { routing_key } => routing_key,
            Runs::Class(class) => {
                reply.send(Reported::Undelivered { reason: format!("no worker here has the step struct `{class}`") }).await;
                return None;
            }
        };
        match body {
            Ok(body) => {
                let sender = Sender::Task { reply, cancellation: task.cancellation.clone() };
                let id = message_id(&task);
                let origin = &task.origin;
                let letter = Self::new_to(To::Service(routing_key), id, &origin.request_id, &origin.traceparent, body.into(), sender);
                Some(letter)
            }
            Err(error) => {
                let failure = Failure::new(Failure::INVALID_INPUT, error.to_string());
                let failed = AttemptFailed { outcome: Outcome::Failed, failure, retry: Some(false), after_ms: None };
                reply.send(Reported::Failed(failed)).await;
                None
            }
        }
    }

    fn new_to(to: To, id: String, correlation_id: &str, traceparent: &str, body: Bytes, sender: Sender) -> Self {
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_app_id("crux".into());
        if let Ok(id) = ShortString::try_new(id.as_str()) {
            properties = properties.with_message_id(id);
        }
        // A request id that was made of an event's name and id may be longer than the property; it is in the instance's document then.
        if !correlation_id.is_empty()
            && let Ok(correlation_id) = ShortString::try_new(correlation_id)
        {
            properties = properties.with_correlation_id(correlation_id);
        }
        if !traceparent.is_empty() {
            let mut headers = FieldTable::default();
            headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
            properties = properties.with_headers(headers);
        }
        Self { to, id, properties, body, refusals: 0, sender }
    }

    /// Whether anybody waits for what it asks.
    pub(super) fn is_wanted(&self) -> bool {
        match &self.sender {
            Sender::Task { cancellation, .. } => !cancellation.is_cancelled(),
            Sender::Message(_) => true,
        }
    }

    /// Some queue has it.
    pub(super) async fn arrived(self) {
        match self.sender {
            Sender::Task { reply, .. } => reply.send(Reported::Delivered).await,
            Sender::Message(done) => done(Published::Done),
        }
    }

    /// No queue has it.
    pub(super) async fn failed(self, reason: String) {
        match self.sender {
            Sender::Task { reply, .. } => reply.send(Reported::Undelivered { reason }).await,
            Sender::Message(done) => done(Published::Failed(reason)),
        }
    }
}

/// The task's id, unless its path makes it longer than the property may be.
fn message_id(task: &Task) -> String {
    let id = task.task_id();
    if id.len() <= MAX_SHORT_STRING_LENGTH { id } else { format!("{}/{}/{}", task.origin.workflow_id, task.step_id(), task.attempt) }
}
