//! The consumer: passes messages of services and other programs to the message handler, and
//! acknowledges them once they are durable. A message that cannot be handled goes to the
//! dead-letter queue, with the reason, before it is acknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use super::Options;
use super::acks::Acks;
use super::connection::{self, Problem, problem};
use super::topology::Topology;
use crate::backoff::Backoff;
use crate::bus::broker::status::{LinkStatus, State};
use crate::bus::broker::task_delivery::TaskHandler;
use crate::bus::broker::worker_registry::WorkerRegistry;
use crate::bus::broker::{self, RETRY_DELAY, Settlement, handle};
use crate::bus::rabbitmq::properties::{DivertedMessage, Route, diverted_properties};
use crate::bus::rabbitmq::task_consumer::TaskSession;
use crate::bus::routing_keys::WORKERS;
use crate::bus::session::{Session, keep_connected, stopped};
use crate::bus::{Incoming, MessageHandler, PublishOutcome};

/// How long acknowledgements wait to be batched.
const ACK_INTERVAL: Duration = Duration::from_millis(5);
/// After so many of these, also those behind a gap are acknowledged.
const ACK_SINGLE_TICKS: u32 = 40;

/// See the module's text.
#[derive(Clone)]
pub(super) struct Consumer {
    pub(super) options: Arc<Options>,
    pub(super) topology: Arc<Topology>,
    pub(super) state: Arc<State>,
    /// Dead letters and parked messages, to the publisher.
    pub(super) refused: mpsc::Sender<DivertedMessage>,
    pub(super) workers: Arc<WorkerRegistry>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl broker::Consume for Consumer {
    fn run(&self, handler: Arc<dyn MessageHandler>) -> BoxFuture<'static, ()> {
        let stopping = self.stopping.clone();
        Box::pin(keep_connected(
            ConsumerSession { consumer: self.clone(), handler },
            Backoff::new(),
            stopping,
        ))
    }

    fn fetch(&self, handler: Arc<dyn TaskHandler>) -> BoxFuture<'static, ()> {
        let stopping = self.stopping.clone();
        Box::pin(keep_connected(
            TaskSession { consumer: self.clone(), handler },
            Backoff::new(),
            stopping,
        ))
    }

    fn worker_registry(&self) -> Option<&Arc<WorkerRegistry>> {
        Some(&self.workers)
    }
}

/// Gives the handler what services and others send.
struct ConsumerSession {
    consumer: Consumer,
    handler: Arc<dyn MessageHandler>,
}

impl Session for ConsumerSession {
    type Error = Problem;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Problem> {
        let connection = connection::connect(&self.consumer.options, "consumer").await?;
        self.consumer.session(&connection, &*self.handler, backoff).await
    }

    fn set_down(&mut self, reason: String) {
        self.consumer.state.set_consuming(LinkStatus::Down(reason));
    }
}

impl Consumer {
    /// Consumes on this connection until it is lost, or until the process stops.
    async fn session(
        &self,
        connection: &Connection,
        handler: &dyn MessageHandler,
        backoff: &mut Backoff,
    ) -> Result<(), Problem> {
        let channel = connection.create_channel().await.map_err(|error| problem(&error))?;
        self.topology.declare(&channel).await?;
        let mut queues =
            vec![self.subscribe(connection, handler, self.topology.completions()).await?];
        if let Some(events) = self.topology.events() {
            queues.push(self.subscribe(connection, handler, events).await?);
        }
        let workers = self.workers.clone();
        let heartbeats = self
            .listen(connection, WORKERS, "workers", move |said| workers.receive_text(said))
            .await?;
        self.state.set_consuming(LinkStatus::Up);
        backoff.reset();
        // The first to end ends all: with an error, or because the process stops.
        tokio::select! {
            ended = futures_util::future::try_join_all(queues.into_iter().map(Subscription::run)) => ended.map(drop),
            lost = heartbeats => Err(lost),
            lost = self.keep_bound(&channel) => Err(lost),
        }
    }

    /// A queue on its own channel, so that its acknowledgements are its own.
    async fn subscribe<'a>(
        &'a self,
        connection: &Connection,
        handler: &'a dyn MessageHandler,
        queue: &'a str,
    ) -> Result<Subscription<'a>, Problem> {
        let open = async {
            let channel = connection.create_channel().await?;
            channel.basic_qos(self.options.prefetch, BasicQosOptions { global: false }).await?;
            let options = BasicConsumeOptions::default();
            let deliveries = channel
                .basic_consume(queue.into(), "".into(), options, FieldTable::default())
                .await?;
            Ok((channel, deliveries))
        };
        let (channel, deliveries) = open.await.map_err(|error| problem(&error))?;
        Ok(Subscription { consumer: self, handler, queue, channel, deliveries, acks: Acks::new() })
    }

    /// The delivery's tag once it needs no more attention; `None`: the process stops, and the
    /// broker gives it to another.
    async fn take(
        &self,
        handler: &dyn MessageHandler,
        queue: &str,
        delivery: Delivery,
    ) -> Option<u64> {
        let tag = delivery.delivery_tag;
        self.state.count_consumed(delivery.redelivered);
        let routing_key = match (
            delivery.routing_key.as_str(),
            header(&delivery.properties, "x-crux-routing-key"),
        ) {
            // It was parked, and comes back under the queue's name.
            (key, parked) if key == queue && !parked.is_empty() => parked,
            (key, _) => key.to_owned(),
        };
        let incoming = Incoming {
            routing_key,
            message_id: delivery.properties.message_id().as_ref().map(ToString::to_string),
            correlation_id: delivery
                .properties
                .correlation_id()
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            traceparent: header(&delivery.properties, "traceparent"),
            body: delivery.data.into(),
        };
        let (to, reason) = match handle(handler, &incoming, &self.state).await {
            Settlement::Ack => return Some(tag),
            Settlement::DeadLetter(reason) => (Route::DeadLetter, reason),
            Settlement::Park(reason) => (Route::Parked, reason),
            Settlement::Requeue => return None,
        };
        let Incoming { routing_key, body, .. } = incoming;
        if to == Route::DeadLetter {
            warn!(queue, routing_key, reason, "message rejected and dead-lettered");
        }
        self.divert(to, (queue, &routing_key), body, &delivery.properties, &reason).await?;
        match to {
            Route::Parked => self.state.parking.parked(&routing_key, &reason),
            _ => drop(self.state.dead.fetch_add(1, Ordering::Relaxed)),
        }
        Some(tag)
    }

    /// Moves a message to the dead-letter queue or the queue of parked messages; `None`: the process
    /// stops. `from`: the queue, and its routing key.
    pub(super) async fn divert(
        &self,
        to: Route,
        from: (&str, &str),
        body: Bytes,
        came_with: &BasicProperties,
        reason: &str,
    ) -> Option<()> {
        let (queue, routing_key) = from;
        let about = [
            ("x-crux-reason", reason),
            ("x-crux-queue", queue),
            ("x-crux-routing-key", routing_key),
        ];
        let properties = diverted_properties(
            came_with,
            &about,
            (to == Route::Parked).then_some(self.options.parked_retry_delay),
        );
        loop {
            let (report, published) = oneshot::channel();
            let done = Box::new(move |published| {
                // The receiver is dropped only with the connection; then the broker redelivers the
                // message.
                let _ = report.send(published);
            });
            self.refused
                .send(DivertedMessage {
                    to,
                    body: body.clone(),
                    properties: Box::new(properties.clone()),
                    done,
                })
                .await
                .ok()?;
            match published.await.ok()? {
                PublishOutcome::Confirmed => return Some(()),
                PublishOutcome::Failed(reason) => {
                    warn!(queue, reason, "cannot dead-letter or park a message; retrying");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Again and again, until the connection is lost.
    async fn keep_bound(&self, channel: &Channel) -> Problem {
        loop {
            tokio::time::sleep(self.options.rebind).await;
            if let Err(problem) = self.topology.bind(channel).await {
                return problem;
            }
        }
    }
}

/// One queue's deliveries.
struct Subscription<'a> {
    consumer: &'a Consumer,
    handler: &'a dyn MessageHandler,
    queue: &'a str,
    channel: Channel,
    deliveries: lapin::Consumer,
    acks: Acks,
}

impl Subscription<'_> {
    async fn run(mut self) -> Result<(), Problem> {
        let (consumer, handler) = (self.consumer, self.handler);
        let mut stopping = consumer.stopping.clone();
        let mut in_hand = FuturesUnordered::new();
        let mut tick = tokio::time::interval(ACK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        // Larger groups save little more.
        let group = usize::from(consumer.options.prefetch / 10).max(1);
        loop {
            tokio::select! {
                Some(done) = in_hand.next(), if !in_hand.is_empty() => {
                    let Some(tag) = done else { continue };
                    self.acks.done(tag);
                    if self.acks.waiting() >= group {
                        self.acknowledge(false).await?;
                    }
                }
                delivery = self.deliveries.next() => match delivery {
                    Some(Ok(delivery)) => in_hand.push(consumer.take(handler, self.queue, delivery)),
                    Some(Err(error)) => return Err(problem(&error)),
                    None => return Err(Problem::Lost(format!("RabbitMQ has ended the consumption of {}: was the queue deleted?", self.queue))),
                },
                _ = tick.tick(), if self.acks.waiting() > 0 => {
                    ticks = ticks.wrapping_add(1);
                    self.acknowledge(ticks.is_multiple_of(ACK_SINGLE_TICKS)).await?;
                }
                () = stopped(&mut stopping) => {
                    // Unacknowledged messages go to another node, or are redelivered after the
                    // restart.
                    return self.acknowledge(true).await;
                }
            }
        }
    }

    /// `also_single`: those behind a gap too.
    async fn acknowledge(&mut self, also_single: bool) -> Result<(), Problem> {
        let together = self.acks.together().map(|tag| (tag, true));
        let single = if also_single { self.acks.single() } else { Vec::new() };
        for (tag, multiple) in
            together.into_iter().chain(single.into_iter().map(|tag| (tag, false)))
        {
            self.channel
                .basic_ack(tag, BasicAckOptions { multiple })
                .await
                .map_err(|error| problem(&error))?;
        }
        Ok(())
    }
}

/// A header's text; empty if there is none.
fn header(properties: &BasicProperties, name: &str) -> String {
    let value = properties.headers().as_ref().and_then(|headers| headers.inner().get(name));
    match value {
        Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        _ => String::new(),
    }
}
