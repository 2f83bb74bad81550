//! Shared by all broker-based buses: the bounded queue through which the engine hands over tasks and
//! messages for publishing. A publisher empties that queue, a consumer gives incoming messages to
//! the message handler; both belong to one broker and are made by its module.

pub(crate) mod envelope;
pub(crate) mod parking;
pub(crate) mod status;
pub mod task_delivery;
pub mod worker_registry;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info};

use super::{Bus, Disposition, Incoming, Message, MessageHandler, Metric, PublishOutcome};
use crate::bus::broker::envelope::{Outgoing, PublishCallback};
use crate::bus::broker::status::{LinkStatus, State};
use crate::bus::broker::task_delivery::TaskHandler;
use crate::bus::broker::worker_registry::{AttemptIds, PresenceMessage, WorkerRegistry};
use crate::bus::event_source::EventSource;
use crate::bus::http::Local;
use crate::bus::routing_keys::{CANCELLED, WORKERS};
use crate::bus::session::{is_stopping, stopped};
use crate::executor::queue::Job;
use crate::machine::Runs;
use crate::supervise;
use crate::task::{Report, Task};

/// Before a message is handled again that had to wait.
pub(in crate::bus) const RETRY_DELAY: std::time::Duration = std::time::Duration::from_secs(1);

/// How often a message is handled again that waits for its instance, before it is parked. Together
/// with [`RETRY_DELAY`] longer than the lease of a node that has died.
const INSTANCE_RETRIES_MAX: u32 = 12;

/// Consumes what a broker delivers, until the process stops.
pub(in crate::bus) trait Consume: Send + Sync {
    fn run(&self, handler: Arc<dyn MessageHandler>) -> BoxFuture<'static, ()>;

    /// Instead of [`Self::run`], in a worker process: fetches tasks of step structs for `handler`.
    fn fetch(&self, _handler: Arc<dyn TaskHandler>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The workers that it knows; `None`: this broker carries no tasks of step structs.
    fn worker_registry(&self) -> Option<&Arc<WorkerRegistry>> {
        None
    }
}

/// The bus over a broker: what the engine hands over is queued, published by the broker's publisher
/// and kept until the broker confirms it. A task for `order/42/pay` waits in `outgoing`, goes out
/// under `step.pay`, and is reported as delivered when the broker has confirmed it; while there is
/// no connection it stays in the queue, and when the queue is full the engine keeps it.
pub struct Broker {
    state: Arc<State>,
    outgoing: mpsc::Sender<Outgoing>,
    /// Services that are attached by HTTP get their tasks so.
    pushed: Arc<Local>,
    consumer: Box<dyn Consume>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Constructor arguments of [`Broker`].
pub(in crate::bus) struct Parts {
    pub(in crate::bus) state: Arc<State>,
    /// To the publisher.
    pub(in crate::bus) outgoing: mpsc::Sender<Outgoing>,
    pub(in crate::bus) pushed: Arc<Local>,
    pub(in crate::bus) consumer: Box<dyn Consume>,
    /// Publisher and consumer end when it says so.
    pub(in crate::bus) stop: watch::Sender<bool>,
    pub(in crate::bus) publishing: JoinHandle<()>,
}

impl Broker {
    pub(in crate::bus) fn new(parts: Parts) -> Self {
        let Parts { state, outgoing, pushed, consumer, stop, publishing } = parts;
        Self { state, outgoing, pushed, consumer, stop, tasks: Mutex::new(vec![publishing]) }
    }

    /// Begins to consume.
    pub fn consume(&self, handler: Arc<dyn MessageHandler>) {
        let stopping = self.stopping();
        self.keep(supervise::keep_running(
            "consuming from the broker",
            move || is_stopping(&stopping),
            self.consumer.run(handler),
        ));
    }

    /// As [`Bus::publish`], but at most once: an unknown outcome counts as a failure.
    pub(crate) fn publish_once(
        &self,
        message: Message,
        done: PublishCallback,
    ) -> Result<(), Message> {
        match self.offer(Outgoing::Once { message, done }) {
            Some(Outgoing::Once { message, .. }) => Err(message),
            _ => Ok(()),
        }
    }

    /// Publishes a probe at this interval and consumes it, so that a silent broker is not mistaken
    /// for dead workers: see [`worker_registry`].
    pub(crate) fn start_self_probe(&self, node: String, every: Duration) {
        let Some(workers) = self.consumer.worker_registry() else { return };
        workers.start_self_probe(node.clone(), every);
        let said = PresenceMessage::Node { node };
        let (outgoing, mut stopping, probe) =
            (self.outgoing.clone(), self.stopping(), self.stopping());
        let is_stopping = move || is_stopping(&probe);
        self.keep(supervise::keep_running("self-probes of this node", is_stopping, async move {
            let probing = async {
                loop {
                    let (report, published) = oneshot::channel();
                    let done: PublishCallback = Box::new(move |published| {
                        // The receiver is dropped only when the bus closes; ignore.
                        let _ = report.send(published);
                    });
                    let message = to_all(WORKERS, &said);
                    // One that does not get out is followed by the next when it is out: there is
                    // never more than one.
                    if outgoing.send(Outgoing::Message { message, done }).await.is_err()
                        || published.await.is_err()
                    {
                        return;
                    }
                    tokio::time::sleep(every).await;
                }
            };
            tokio::select! {
                () = probing => {}
                () = stopped(&mut stopping) => {}
            }
        }));
    }

    pub(in crate::bus) fn consumer(&self) -> &dyn Consume {
        &*self.consumer
    }

    /// When it says so, publisher and consumer end.
    pub(in crate::bus) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Waits for its end when the bus is closed.
    pub(in crate::bus) fn keep(&self, task: JoinHandle<()>) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Once the broker has it, services that listen by HTTP get it too; only then it is out.
    fn and_pushed(&self, message: Message, done: PublishCallback) -> PublishCallback {
        let pushed = self.pushed.clone();
        Box::new(move |published| {
            if published != PublishOutcome::Confirmed {
                return done(published);
            }
            let (done, of_listeners) = share(done);
            if pushed.publish(message, of_listeners).is_err() {
                done(PublishOutcome::Failed(
                    "the services that listen to it have no room".to_owned(),
                ));
            }
        })
    }

    /// Gives it back if there is no room.
    fn offer(&self, outgoing: Outgoing) -> Option<Outgoing> {
        match self.outgoing.try_send(outgoing) {
            Ok(()) => None,
            Err(
                mpsc::error::TrySendError::Full(outgoing)
                | mpsc::error::TrySendError::Closed(outgoing),
            ) => Some(outgoing),
        }
    }

    fn waiting(&self) -> usize {
        self.outgoing.max_capacity() - self.outgoing.capacity()
    }
}

/// It is closed with the bus.
impl EventSource for Broker {
    fn consume(&self, handler: Arc<dyn MessageHandler>) {
        Self::consume(self, handler);
    }
}

impl Bus for Broker {
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task> {
        if self.pushed.serves(task.contract.step_type) {
            return self.pushed.dispatch(task, reports);
        }
        if let (Runs::Class(_), Some(workers)) =
            (task.contract.runs, self.consumer.worker_registry())
        {
            workers.sent(task.contract.step_type);
        }
        // While there is no connection as many wait here as find room: they are the first to go
        // out.
        match self.offer(Outgoing::Task { task, reports: reports.clone() }) {
            Some(Outgoing::Task { task, reports }) => match self.state.publishing() {
                LinkStatus::Down(why) => Job::new(task, reports).refuse(why),
                LinkStatus::Up | LinkStatus::Blocked(_) => Err(task),
            },
            _ => Ok(()),
        }
    }

    /// Only the broker knows the subscribers.
    fn wants(&self, _routing_key: &str) -> bool {
        true
    }

    fn publish(&self, message: Message, done: PublishCallback) -> Result<(), Message> {
        let done = if self.pushed.wants(message.routing_key) {
            self.and_pushed(message.clone(), done)
        } else {
            done
        };
        match self.offer(Outgoing::Message { message, done }) {
            Some(Outgoing::Message { message, .. }) => Err(message),
            _ => Ok(()),
        }
    }

    fn health(&self) -> Result<(), String> {
        match (self.state.health(), self.pushed.health()) {
            (Ok(()), health) | (health, Ok(())) => health,
            (Err(broker), Err(services)) => Err(format!("{broker}; {services}")),
        }
    }

    fn delay(&self, step_type: Option<&str>) -> Option<String> {
        if step_type.is_some_and(|step_type| self.pushed.serves(step_type)) {
            self.pushed.delay(step_type)
        } else {
            self.state.delay()
        }
    }

    fn held(&self, routing_key: &str) -> Option<String> {
        self.state.delay().or_else(|| self.pushed.held(routing_key))
    }

    fn back(&self) -> Option<watch::Receiver<u64>> {
        self.pushed.back()
    }

    fn congestion(&self) -> Option<String> {
        let waiting = self.waiting();
        if waiting * 4 < self.outgoing.max_capacity() * 3 {
            return None;
        }
        let broker = self.state.broker;
        match self.state.publishing() {
            // What finds no room stays in the engine, which has a separate limit.
            LinkStatus::Down(_) => None,
            LinkStatus::Blocked(why) => Some(format!(
                "{waiting} messages wait to be published: {broker} has blocked publishing: {why}"
            )),
            LinkStatus::Up => Some(format!(
                "{waiting} messages wait to be published: {broker} takes them more slowly than they come"
            )),
        }
    }

    fn worker_registry(&self) -> Option<&WorkerRegistry> {
        self.consumer.worker_registry().map(|workers| &**workers)
    }

    fn cancel(&self, working: AttemptIds) {
        if self.consumer.worker_registry().is_none() {
            return;
        }
        if self.publish(to_all(CANCELLED, &working), Box::new(|_| {})).is_err() {
            debug!("no room to say that an attempt is cancelled: it goes on to its end");
        }
    }

    fn parked(&self) -> Option<String> {
        self.state.parking.problem()
    }

    fn metrics(&self) -> Vec<Metric> {
        self.state.metrics(self.waiting())
    }

    fn drain(&self) {
        self.pushed.drain();
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.stop.send_replace(true);
            let tasks =
                std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            for task in tasks {
                if let Err(error) = task.await {
                    tracing::warn!(%error, "a task of the bus panicked or was aborted during shutdown");
                }
            }
        })
    }
}

/// A broadcast to all current subscribers.
pub(crate) fn to_all(routing_key: &'static str, said: &impl Serialize) -> Message {
    // Texts and numbers always encode.
    let body = crate::machine::json::raw(said).unwrap_or_else(|_| RawValue::NULL.to_owned());
    Message {
        routing_key,
        id: String::new(),
        correlation_id: String::new(),
        traceparent: String::new(),
        body,
    }
}

/// Two callbacks for one result; only the first call counts.
fn share(done: PublishCallback) -> (PublishCallback, PublishCallback) {
    let done = Arc::new(Mutex::new(Some(done)));
    let end = |done: Arc<Mutex<Option<PublishCallback>>>| -> PublishCallback {
        Box::new(move |published| {
            let done = done.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(done) = done {
                done(published);
            }
        })
    };
    (end(done.clone()), end(done))
}

/// What to do with a message once its handler has decided.
pub(in crate::bus) enum Settlement {
    /// Acknowledge it.
    Ack,
    /// Move it to the dead-letter queue, with this reason.
    DeadLetter(String),
    /// Park it, with this reason; it is redelivered later.
    Park(String),
    /// The process stops: another process should get it.
    Requeue,
}

/// Handles a message until there is a decision. One that waits for its instance is retried a bounded
/// number of times, and only while few others wait: it must not keep other messages from being
/// delivered.
pub(in crate::bus) async fn handle(
    handler: &dyn MessageHandler,
    incoming: &Incoming,
    state: &State,
) -> Settlement {
    let (mut tries, mut place) = (0, None);
    let Incoming { routing_key, message_id, correlation_id, .. } = incoming;
    info!(target: "crux::messages", routing_key, message_id, correlation_id, "message consumed");
    loop {
        match handler.handle(incoming).await {
            Disposition::Ack => return Settlement::Ack,
            Disposition::DeadLetter(reason) => return Settlement::DeadLetter(reason),
            Disposition::Requeue => return Settlement::Requeue,
            Disposition::RetryLater(reason) => {
                debug!(
                    routing_key,
                    message_id, correlation_id, reason, "message handling postponed"
                );
                tokio::time::sleep(RETRY_DELAY).await;
            }
            Disposition::WaitForInstance(reason) => {
                tries += 1;
                place = place.or_else(|| state.parking.permit());
                if tries > INSTANCE_RETRIES_MAX || place.is_none() {
                    return Settlement::Park(reason);
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}
