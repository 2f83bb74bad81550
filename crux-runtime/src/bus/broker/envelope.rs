//! A message on its way to a broker, and the callback for its result.

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::info;

use crate::bus::routing_keys::work_key;
use crate::bus::task_body::task_body;
use crate::bus::{Message, PublishOutcome};
use crate::executor::Cancellation;
use crate::executor::queue;
use crate::executor::queue::{Job, ReplyTo};
use crate::machine::{AttemptFailed, Failure, Outcome, Runs};
use crate::task::{Report, Reported, Task};

/// Bytes of a message id. AMQP's limit of such a text; ids are the same on every broker.
pub(in crate::bus) const ID_BYTES_MAX: usize = 255;

pub(in crate::bus) type PublishCallback = Box<dyn FnOnce(PublishOutcome) + Send>;

/// Handed to a publisher.
pub(in crate::bus) enum Outgoing {
    Task {
        task: Task,
        reports: mpsc::Sender<Report>,
    },
    Message {
        message: Message,
        done: PublishCallback,
    },
    /// As a message, but published at most once.
    Once {
        message: Message,
        done: PublishCallback,
    },
}

/// Where an envelope goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bus) enum Destination {
    /// The service, or the workers, under that routing key; undeliverable without a queue.
    Service(&'static str),
    /// All subscribers of that routing key; there may be none.
    Subscribers(&'static str),
}

/// A message ready to be published, and published again until the broker confirms it. Its id is the
/// same each time, so that a service which got `order/42/pay` twice recognizes the second one.
pub(in crate::bus) struct Envelope {
    pub(in crate::bus) to: Destination,
    /// The same each time it is published.
    pub(in crate::bus) id: String,
    /// May be empty, like `traceparent`.
    pub(in crate::bus) correlation_id: String,
    pub(in crate::bus) traceparent: String,
    pub(in crate::bus) body: Bytes,
    pub(in crate::bus) reply_handle: ReplyHandle,
}

/// The receiver of an envelope's result.
pub(in crate::bus) enum ReplyHandle {
    Task {
        reply: ReplyTo,
        cancellation: Cancellation,
        /// Not published again on an unknown outcome.
        at_most_once: bool,
    },
    Message(PublishCallback),
    /// Not published again on an unknown outcome, like a task with `at_most_once`.
    Once(PublishCallback),
}

impl Envelope {
    /// `None`: cancelled, or it cannot be encoded; the sender has been notified.
    pub(in crate::bus) async fn new(outgoing: Outgoing) -> Option<Self> {
        let envelope = match outgoing {
            Outgoing::Task { task, reports } => Self::of_task(task, reports).await?,
            Outgoing::Message { message, done } => {
                Self::of_message(message, ReplyHandle::Message(done))
            }
            Outgoing::Once { message, done } => Self::of_message(message, ReplyHandle::Once(done)),
        };
        // Heartbeats and probes have no id.
        if let Destination::Service(routing_key) | Destination::Subscribers(routing_key) =
            envelope.to
            && !envelope.id.is_empty()
        {
            let (message_id, correlation_id) = (&envelope.id, &envelope.correlation_id);
            info!(target: "crux::messages", routing_key, message_id, correlation_id, "message published");
        }
        Some(envelope)
    }

    fn of_message(message: Message, reply_handle: ReplyHandle) -> Self {
        let Message { routing_key, id, correlation_id, traceparent, body } = message;
        let body = Bytes::from(String::from(Box::<str>::from(body)).into_bytes());
        Self {
            to: Destination::Subscribers(routing_key),
            id,
            correlation_id,
            traceparent,
            body,
            reply_handle,
        }
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
                to: Destination::Service(routing_key),
                id: message_id(&task),
                correlation_id: task.origin.correlation_id().to_owned(),
                traceparent: task.origin.traceparent.clone(),
                body: body.into(),
                reply_handle: ReplyHandle::Task {
                    reply,
                    cancellation: task.cancellation,
                    at_most_once,
                },
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

impl ReplyHandle {
    /// Whether the result is still awaited.
    pub(in crate::bus) fn is_wanted(&self) -> bool {
        match self {
            Self::Task { cancellation, .. } => !cancellation.is_cancelled(),
            Self::Message(_) | Self::Once(_) => true,
        }
    }

    /// The broker has confirmed it.
    pub(in crate::bus) async fn arrived(self) {
        match self {
            Self::Task { reply, .. } => reply.send(Reported::Delivered).await,
            Self::Message(done) | Self::Once(done) => done(PublishOutcome::Confirmed),
        }
    }

    /// It was not published.
    pub(in crate::bus) async fn failed(self, reason: String) {
        match self {
            Self::Task { reply, .. } => {
                reply.send(Reported::Undelivered { reason, after_ms: None }).await
            }
            Self::Message(done) | Self::Once(done) => done(PublishOutcome::Failed(reason)),
        }
    }

    /// Whether the envelope may be published again if it is not known whether the broker has it.
    pub(in crate::bus) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Task { at_most_once: true, .. } | Self::Once(_))
    }

    /// The outcome is unknown, and it is not published again.
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
            Self::Message(done) | Self::Once(done) => done(PublishOutcome::Failed(reason)),
        }
    }
}

/// The task's id, unless its path makes it longer than ids may be.
fn message_id(task: &Task) -> String {
    let id = task.task_id();
    if id.len() <= ID_BYTES_MAX {
        id
    } else {
        format!("{}/{}/{}", task.origin.workflow_id, task.step_id(), task.attempt)
    }
}
