//! A message on its way to a broker, and whoever hears what became of it.

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::info;

use crate::bus::routing_keys::work_key;
use crate::bus::task_body::task_body;
use crate::bus::{Message, Published};
use crate::executor::Cancellation;
use crate::executor::queue;
use crate::executor::queue::{Job, ReplyTo};
use crate::machine::{AttemptFailed, Failure, Outcome, Runs};
use crate::task::{Report, Reported, Task};

/// Bytes of a message id. AMQP's limit of such a text; ids are the same on every broker.
pub(in crate::bus) const MAX_ID: usize = 255;

pub(in crate::bus) type Done = Box<dyn FnOnce(Published) + Send>;

/// What a publisher is given.
pub(in crate::bus) enum Post {
    Task {
        task: Task,
        reports: mpsc::Sender<Report>,
    },
    Message {
        message: Message,
        done: Done,
    },
    /// As a message, and is not published again if it is not known what became of it.
    Once {
        message: Message,
        done: Done,
    },
}

/// Who gets a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bus) enum To {
    /// The service, or the workers, under that routing key; without one it is not delivered.
    Service(&'static str),
    /// Whoever listens, or nobody.
    Anybody(&'static str),
}

/// Ready to be published, as often as it takes.
pub(in crate::bus) struct Letter {
    pub(in crate::bus) to: To,
    /// The same however often it is published.
    pub(in crate::bus) id: String,
    /// May be empty, as the next.
    pub(in crate::bus) correlation_id: String,
    pub(in crate::bus) traceparent: String,
    pub(in crate::bus) body: Bytes,
    pub(in crate::bus) sender: Sender,
}

/// Who waits to hear what became of a letter.
pub(in crate::bus) enum Sender {
    Task {
        reply: ReplyTo,
        cancellation: Cancellation,
        /// It must not be published again when it is not known whether the broker has it.
        at_most_once: bool,
    },
    Message(Done),
    /// As the flag of a task.
    Once(Done),
}

impl Letter {
    /// `None`: nobody waits for it any more, or it cannot be written; whoever sent it has been
    /// told.
    pub(in crate::bus) async fn new(post: Post) -> Option<Self> {
        let letter = match post {
            Post::Task { task, reports } => Self::of_task(task, reports).await?,
            Post::Message { message, done } => Self::of_message(message, Sender::Message(done)),
            Post::Once { message, done } => Self::of_message(message, Sender::Once(done)),
        };
        // What nodes and workers tell each other all the time has no id.
        if let To::Service(routing_key) | To::Anybody(routing_key) = letter.to
            && !letter.id.is_empty()
        {
            let (message_id, correlation_id) = (&letter.id, &letter.correlation_id);
            info!(target: "crux::messages", routing_key, message_id, correlation_id, "a message is published");
        }
        Some(letter)
    }

    fn of_message(message: Message, sender: Sender) -> Self {
        let Message { routing_key, id, correlation_id, traceparent, body } = message;
        let body = Bytes::from(String::from(Box::<str>::from(body)).into_bytes());
        Self { to: To::Anybody(routing_key), id, correlation_id, traceparent, body, sender }
    }

    async fn of_task(task: Task, reports: mpsc::Sender<Report>) -> Option<Self> {
        let not_begun = queue::not_begun(&task);
        let body = task_body(&task, &task.key());
        let (task, reply) = Job::new(task, reports).split();
        if let Some(reported) = not_begun {
            reply.send(reported).await;
            return None;
        }
        let (routing_key, at_most_once) = match task.contract.runs {
            // Services know a task that they had before by its id.
            Runs::Service { routing_key } => (routing_key, false),
            Runs::Class(_) => (work_key(task.contract.step_type), task.is_once()),
        };
        match body {
            Ok(body) => Some(Self {
                to: To::Service(routing_key),
                id: message_id(&task),
                correlation_id: task.origin.correlation_id().to_owned(),
                traceparent: task.origin.traceparent.clone(),
                body: body.into(),
                sender: Sender::Task { reply, cancellation: task.cancellation, at_most_once },
            }),
            Err(error) => {
                let failure = Failure::new(Failure::INVALID_INPUT, error.to_string());
                let failed = AttemptFailed {
                    outcome: Outcome::Failed,
                    failure,
                    retry: Some(false),
                    after_ms: None,
                };
                reply.send(Reported::Failed(failed)).await;
                None
            }
        }
    }
}

impl Sender {
    /// Whether anybody waits for what the letter asks.
    pub(in crate::bus) fn is_wanted(&self) -> bool {
        match self {
            Self::Task { cancellation, .. } => !cancellation.is_cancelled(),
            Self::Message(_) | Self::Once(_) => true,
        }
    }

    /// The broker has it, for somebody.
    pub(in crate::bus) async fn arrived(self) {
        match self {
            Self::Task { reply, .. } => reply.send(Reported::Delivered).await,
            Self::Message(done) | Self::Once(done) => done(Published::Done),
        }
    }

    /// Nobody has it.
    pub(in crate::bus) async fn failed(self, reason: String) {
        match self {
            Self::Task { reply, .. } => {
                reply.send(Reported::Undelivered { reason, after_ms: None }).await
            }
            Self::Message(done) | Self::Once(done) => done(Published::Failed(reason)),
        }
    }

    /// Whether the letter may be published again if it is not known whether the broker has it.
    pub(in crate::bus) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Task { at_most_once: true, .. } | Self::Once(_))
    }

    /// Nobody knows whether the broker has it, and it is not published again.
    pub(in crate::bus) async fn lost(self, reason: String) {
        match self {
            Self::Task { reply, .. } => {
                let failure = Failure::new(Failure::WORKER_LOST, reason);
                reply
                    .send(Reported::Failed(AttemptFailed {
                        outcome: Outcome::Unknown,
                        failure,
                        retry: None,
                        after_ms: None,
                    }))
                    .await;
            }
            Self::Message(done) | Self::Once(done) => done(Published::Failed(reason)),
        }
    }
}

/// The task's id, unless its path makes it longer than ids may be.
fn message_id(task: &Task) -> String {
    let id = task.task_id();
    if id.len() <= MAX_ID {
        id
    } else {
        format!("{}/{}/{}", task.origin.workflow_id, task.step_id(), task.attempt)
    }
}
