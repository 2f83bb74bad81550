//! How a worker in a process of its own gets tasks: it consumes from a queue while it has room, and
//! from none while it has not, so that what it could not begin stays where other workers find it. A
//! consumer's prefetch cannot be changed and would not count what is acknowledged and still runs;
//! so the consumer is cancelled when there is no room, and begins anew when there is.
//!
//! What is on its way to a consumer in the moment in which it is cancelled the broker takes back,
//! and delivers it to the next one as if the first had had it. For tasks that must not begin twice
//! that would be the end. Their consumers get one at a time and are cancelled only with that one in
//! hand, when nothing can be on its way; it is put back as new.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::FieldTable;
use lapin::{Acker, Channel, Connection};
use tokio::sync::watch;
use tracing::debug;

use super::connection;
use crate::backoff::Backoff;
use crate::bus::broker::status::Link;
use crate::bus::broker::task_delivery;
use crate::bus::broker::task_delivery::{Delivery, Hands, Receipt, Refused, Room};
use crate::bus::rabbitmq::connection::{Problem, problem};
use crate::bus::rabbitmq::consumer::Consumer;
use crate::bus::rabbitmq::properties::To;
use crate::bus::routing_keys::CANCELLED;
use crate::bus::session::{Session, stopped};

/// How many tasks of a type may be on their way here before the first of them is acknowledged. Each
/// may come when there is no room any more.
const MAX_PREFETCH: u16 = 32;

/// Gives a worker's hands tasks of step structs.
pub(super) struct Tasks {
    pub(super) consumer: Consumer,
    pub(super) hands: Arc<dyn Hands>,
}

impl Session for Tasks {
    type Error = Problem;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Problem> {
        let connection = connection::connect(&self.consumer.options, "worker").await?;
        self.consumer.fetch_over(&connection, &self.hands, backoff).await
    }

    fn set_down(&mut self, reason: String) {
        self.consumer.state.set_consuming(Link::Down(reason));
    }
}

impl Consumer {
    async fn fetch_over(
        &self,
        connection: &Connection,
        hands: &Arc<dyn Hands>,
        backoff: &mut Backoff,
    ) -> Result<(), Problem> {
        let channel = connection.create_channel().await.map_err(|error| problem(&error))?;
        self.topology.declare(&channel).await?;
        let mut queues = Vec::new();
        for step_type in hands.step_types() {
            let channel = connection.create_channel().await.map_err(|error| problem(&error))?;
            queues.push(Fetching {
                consumer: self,
                hands,
                step_type,
                queue: self.topology.work_of(step_type),
                channel,
            });
        }
        let told = hands.clone();
        let cancellations = self
            .listen(connection, CANCELLED, "cancelled", move |said| {
                task_delivery::cancel(&*told, said)
            })
            .await?;
        self.state.set_consuming(Link::Up);
        backoff.reset();
        // Whoever ends first ends all: with an error, or because the process stops.
        tokio::select! {
            ended = futures_util::future::try_join_all(queues.into_iter().map(Fetching::run)) => ended.map(drop),
            lost = cancellations => Err(lost),
        }
    }
}

/// One queue, on a channel of its own.
struct Fetching<'a> {
    consumer: &'a Consumer,
    hands: &'a Arc<dyn Hands>,
    step_type: &'static str,
    queue: &'a str,
    channel: Channel,
}

impl Fetching<'_> {
    async fn run(self) -> Result<(), Problem> {
        let mut stopping = self.consumer.stopping.clone();
        let mut room = self.hands.room(self.step_type);
        loop {
            let now = tokio::select! {
                now = wait_for(&mut room, |room| room.free > 0) => now,
                () = stopped(&mut stopping) => return Ok(()),
            };
            if now.is_closed {
                // What was taken before has to be acknowledged on this channel, until the process
                // ends.
                break;
            }
            self.fetch(now.free).await?;
        }
        stopped(&mut stopping).await;
        Ok(())
    }

    /// Consumes as long as there is room.
    async fn fetch(&self, free: usize) -> Result<(), Problem> {
        let is_once = self.hands.is_once(self.step_type);
        // More would come back when several step types find the last places taken.
        let prefetch = if is_once {
            1
        } else {
            u16::try_from(free / 8).unwrap_or(u16::MAX).clamp(1, MAX_PREFETCH)
        };
        let begin = async {
            self.channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
            let options = BasicConsumeOptions::default();
            self.channel
                .basic_consume(self.queue.into(), "".into(), options, FieldTable::default())
                .await
        };
        let mut deliveries = begin.await.map_err(|error| problem(&error))?;
        let mut stopping = self.consumer.stopping.clone();
        let mut room = self.hands.room(self.step_type);
        let in_hand = loop {
            let delivery = tokio::select! {
                biased;
                // No room, or nobody who would have any.
                _ = wait_for(&mut room, |room| room.free == 0), if !is_once => break None,
                () = stopped(&mut stopping) => break None,
                delivery = deliveries.next() => match delivery {
                    Some(Ok(delivery)) => delivery,
                    Some(Err(error)) => return Err(problem(&error)),
                    None => return Err(self.ended()),
                },
            };
            let now = *room.borrow();
            if is_once && (now.free == 0 || now.is_closed) {
                break Some(delivery);
            }
            self.take(delivery).await;
        };
        // What is on its way comes before the answer; there may be room again by then.
        self.channel
            .basic_cancel(deliveries.tag(), BasicCancelOptions::default())
            .await
            .map_err(|error| problem(&error))?;
        if let Some(delivery) = in_hand {
            self.take(delivery).await;
        }
        while let Some(delivery) = deliveries.next().await {
            self.take(delivery.map_err(|error| problem(&error))?).await;
        }
        Ok(())
    }

    async fn take(&self, delivery: lapin::message::Delivery) {
        let state = &self.consumer.state;
        state.count_consumed(delivery.redelivered);
        let (routing_key, properties) = (delivery.routing_key.to_string(), delivery.properties);
        let task = Delivery {
            body: delivery.data.into(),
            is_again: delivery.redelivered,
            receipt: Box::new(Tag(delivery.acker)),
        };
        if let Some(refused) = task_delivery::deliver(self.hands, self.queue, task).await {
            let Refused { body, receipt, reason } = refused;
            let from = (self.queue, routing_key.as_str());
            let put = self.consumer.put_aside(To::Dead, from, body, &properties, &reason);
            if put.await.is_some() {
                task_delivery::dead_lettered(state, receipt).await;
            }
        }
    }

    fn ended(&self) -> Problem {
        Problem::Lost(format!(
            "RabbitMQ has ended the consumption of {}: was the queue deleted?",
            self.queue
        ))
    }
}

/// Waits for that, or until it will take no more.
async fn wait_for(room: &mut watch::Receiver<Room>, is_so: impl Fn(&Room) -> bool) -> Room {
    match room.wait_for(|room| room.is_closed || is_so(room)).await {
        Ok(room) => *room,
        // Whoever had room is gone.
        Err(_) => Room { free: 0, is_closed: true },
    }
}

struct Tag(Acker);

impl Receipt for Tag {
    fn done(self: Box<Self>) -> BoxFuture<'static, bool> {
        Box::pin(async move {
            self.0.ack(BasicAckOptions::default()).await.unwrap_or_else(|error| {
                debug!(%error, "a task could not be acknowledged: it comes again");
                false
            })
        })
    }

    fn give_back(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) =
                self.0.nack(BasicNackOptions { multiple: false, requeue: true }).await
            {
                debug!(%error, "a task could not be given back: it comes again when the connection is gone");
            }
        })
    }
}
