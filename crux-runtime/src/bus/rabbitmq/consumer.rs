//! The consumer: takes what services and others send, gives it to the door, and acknowledges what
//! the door has taken for good. What the door refuses goes to the queue of the dead, with the
//! reason, before it is acknowledged.

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
use crate::bus::broker::status::{Link, State};
use crate::bus::broker::task_delivery::Hands;
use crate::bus::broker::worker_registry::Roster;
use crate::bus::broker::{self, Fate, PAUSE, bring};
use crate::bus::rabbitmq::properties::{Aside, To, aside};
use crate::bus::rabbitmq::task_consumer::Tasks;
use crate::bus::routing_keys::WORKERS;
use crate::bus::session::{Session, keep_connected, stopped};
use crate::bus::{Door, Incoming, Published};

/// Acknowledgements wait for company at most so long.
const ACK_EVERY: Duration = Duration::from_millis(5);
/// After so many of these, also those behind a gap are acknowledged.
const SINGLE_EVERY: u32 = 40;

/// See the module's text.
#[derive(Clone)]
pub(super) struct Consumer {
    pub(super) options: Arc<Options>,
    pub(super) topology: Arc<Topology>,
    pub(super) state: Arc<State>,
    /// For what is refused, to the publisher.
    pub(super) refused: mpsc::Sender<Aside>,
    pub(super) roster: Arc<Roster>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl broker::Consume for Consumer {
    fn run(&self, door: Arc<dyn Door>) -> BoxFuture<'static, ()> {
        let stopping = self.stopping.clone();
        Box::pin(keep_connected(
            Consuming { consumer: self.clone(), door },
            Backoff::new(),
            stopping,
        ))
    }

    fn fetch(&self, hands: Arc<dyn Hands>) -> BoxFuture<'static, ()> {
        let stopping = self.stopping.clone();
        Box::pin(keep_connected(Tasks { consumer: self.clone(), hands }, Backoff::new(), stopping))
    }

    fn roster(&self) -> Option<&Arc<Roster>> {
        Some(&self.roster)
    }
}

/// Gives the door what services and others send.
struct Consuming {
    consumer: Consumer,
    door: Arc<dyn Door>,
}

impl Session for Consuming {
    type Error = Problem;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Problem> {
        let connection = connection::connect(&self.consumer.options, "consumer").await?;
        self.consumer.session(&connection, &*self.door, backoff).await
    }

    fn set_down(&mut self, reason: String) {
        self.consumer.state.set_consuming(Link::Down(reason));
    }
}

impl Consumer {
    /// Consumes on this connection until it is lost, or until the process stops.
    async fn session(
        &self,
        connection: &Connection,
        door: &dyn Door,
        backoff: &mut Backoff,
    ) -> Result<(), Problem> {
        let channel = connection.create_channel().await.map_err(|error| problem(&error))?;
        self.topology.declare(&channel).await?;
        let mut queues = vec![self.subscribe(connection, door, self.topology.completions()).await?];
        if let Some(events) = self.topology.events() {
            queues.push(self.subscribe(connection, door, events).await?);
        }
        let roster = self.roster.clone();
        let beats =
            self.listen(connection, WORKERS, "workers", move |said| roster.hear_text(said)).await?;
        self.state.set_consuming(Link::Up);
        backoff.reset();
        // Whoever ends first ends all: with an error, or because the process stops.
        tokio::select! {
            ended = futures_util::future::try_join_all(queues.into_iter().map(Subscription::run)) => ended.map(drop),
            lost = beats => Err(lost),
            lost = self.keep_bound(&channel) => Err(lost),
        }
    }

    /// A queue on a channel of its own, so that its acknowledgements are its own.
    async fn subscribe<'a>(
        &'a self,
        connection: &Connection,
        door: &'a dyn Door,
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
        Ok(Subscription { consumer: self, door, queue, channel, deliveries, acks: Acks::new() })
    }

    /// The delivery's tag once it needs no more attention; `None`: the process stops, and the
    /// broker gives it to another.
    async fn take(&self, door: &dyn Door, queue: &str, delivery: Delivery) -> Option<u64> {
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
        let (to, reason) = match bring(door, &incoming, &self.state).await {
            Fate::Done => return Some(tag),
            Fate::Refused(reason) => (To::Dead, reason),
            Fate::Parked(reason) => (To::Parked, reason),
            Fate::Closing => return None,
        };
        let Incoming { routing_key, body, .. } = incoming;
        if to == To::Dead {
            warn!(queue, routing_key, reason, "a message is refused and put aside");
        }
        self.put_aside(to, (queue, &routing_key), body, &delivery.properties, &reason).await?;
        match to {
            To::Parked => self.state.parking.parked(&routing_key, &reason),
            _ => drop(self.state.dead.fetch_add(1, Ordering::Relaxed)),
        }
        Some(tag)
    }

    /// Puts a message into the queue of the dead or of the parked; `None`: the process stops.
    /// `from`: the queue, and its routing key.
    pub(super) async fn put_aside(
        &self,
        to: To,
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
        let properties =
            aside(came_with, &about, (to == To::Parked).then_some(self.options.parking));
        loop {
            let (told, published) = oneshot::channel();
            let done = Box::new(move |published| {
                // Whoever waits for it has gone only with the connection; then the broker delivers
                // the message again.
                let _ = told.send(published);
            });
            self.refused
                .send(Aside {
                    to,
                    body: body.clone(),
                    properties: Box::new(properties.clone()),
                    done,
                })
                .await
                .ok()?;
            match published.await.ok()? {
                Published::Done => return Some(()),
                Published::Failed(reason) => {
                    warn!(queue, reason, "a message could not be put aside; trying again");
                    tokio::time::sleep(PAUSE).await;
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
    door: &'a dyn Door,
    queue: &'a str,
    channel: Channel,
    deliveries: lapin::Consumer,
    acks: Acks,
}

impl Subscription<'_> {
    async fn run(mut self) -> Result<(), Problem> {
        let (consumer, door) = (self.consumer, self.door);
        let mut stopping = consumer.stopping.clone();
        let mut in_hand = FuturesUnordered::new();
        let mut tick = tokio::time::interval(ACK_EVERY);
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
                    Some(Ok(delivery)) => in_hand.push(consumer.take(door, self.queue, delivery)),
                    Some(Err(error)) => return Err(problem(&error)),
                    None => return Err(Problem::Lost(format!("RabbitMQ has ended the consumption of {}: was the queue deleted?", self.queue))),
                },
                _ = tick.tick(), if self.acks.waiting() > 0 => {
                    ticks = ticks.wrapping_add(1);
                    self.acknowledge(ticks.is_multiple_of(SINGLE_EVERY)).await?;
                }
                () = stopped(&mut stopping) => {
                    // What is in hand and not done goes to another node, or comes again after the
                    // start.
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
