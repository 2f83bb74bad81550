//! How a worker process gets tasks: it consumes from a queue only while it has free slots, so that
//! tasks it could not begin stay available to other workers. A consumer's prefetch cannot be
//! changed and does not count tasks that are acknowledged and still running; so the consumer is
//! cancelled when no slot is free, and started again when one is.
//!
//! When a consumer is cancelled, the broker requeues deliveries in flight and marks them as
//! redelivered. An at-most-once task would be lost that way. Consumers of such tasks therefore get
//! one at a time and are cancelled only while holding it, when nothing can be in flight; it is then
//! published again as new.

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
use crate::bus::broker::status::LinkStatus;
use crate::bus::broker::task_delivery;
use crate::bus::broker::task_delivery::{Capacity, Delivery, Receipt, RejectedTask, TaskHandler};
use crate::bus::rabbitmq::connection::{Problem, problem};
use crate::bus::rabbitmq::consumer::Consumer;
use crate::bus::rabbitmq::properties::Route;
use crate::bus::routing_keys::CANCELLED;
use crate::bus::session::{Session, stopped};

/// How many tasks of a type may be on their way here before the first of them is acknowledged. Each
/// may come when there is no capacity any more.
const PREFETCH_MAX: u16 = 32;

/// Gives tasks of step structs to a worker's handler.
pub(super) struct TaskSession {
    pub(super) consumer: Consumer,
    pub(super) handler: Arc<dyn TaskHandler>,
}

impl Session for TaskSession {
    type Error = Problem;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Problem> {
        let connection = connection::connect(&self.consumer.options, "worker").await?;
        self.consumer.fetch_tasks(&connection, &self.handler, backoff).await
    }

    fn set_down(&mut self, reason: String) {
        self.consumer.state.set_consuming(LinkStatus::Down(reason));
    }
}

impl Consumer {
    async fn fetch_tasks(
        &self,
        connection: &Connection,
        handler: &Arc<dyn TaskHandler>,
        backoff: &mut Backoff,
    ) -> Result<(), Problem> {
        let channel = connection.create_channel().await.map_err(|error| problem(&error))?;
        self.topology.declare(&channel).await?;
        let mut queues = Vec::new();
        for step_type in handler.step_types() {
            let channel = connection.create_channel().await.map_err(|error| problem(&error))?;
            queues.push(TaskFetcher {
                consumer: self,
                handler,
                step_type,
                queue: self.topology.work_of(step_type),
                channel,
            });
        }
        let cancel_handler = handler.clone();
        let cancellations = self
            .listen(connection, CANCELLED, "cancelled", move |said| {
                task_delivery::cancel(&*cancel_handler, said)
            })
            .await?;
        self.state.set_consuming(LinkStatus::Up);
        backoff.reset();
        // The first to end ends all: with an error, or because the process stops.
        tokio::select! {
            ended = futures_util::future::try_join_all(queues.into_iter().map(TaskFetcher::run)) => ended.map(drop),
            lost = cancellations => Err(lost),
        }
    }
}

/// One queue, on its own channel.
struct TaskFetcher<'a> {
    consumer: &'a Consumer,
    handler: &'a Arc<dyn TaskHandler>,
    step_type: &'static str,
    queue: &'a str,
    channel: Channel,
}

impl TaskFetcher<'_> {
    async fn run(self) -> Result<(), Problem> {
        let mut stopping = self.consumer.stopping.clone();
        let mut capacity = self.handler.capacity(self.step_type);
        loop {
            let now = tokio::select! {
                now = wait_for(&mut capacity, |capacity| capacity.free > 0) => now,
                () = stopped(&mut stopping) => return Ok(()),
            };
            if now.is_closed {
                // Earlier deliveries have to be acknowledged on this channel, until the process
                // ends.
                break;
            }
            self.fetch(now.free).await?;
        }
        stopped(&mut stopping).await;
        Ok(())
    }

    /// Consumes as long as there is capacity.
    async fn fetch(&self, free: usize) -> Result<(), Problem> {
        let is_once = self.handler.is_once(self.step_type);
        // More would come back when several step types find the last places taken.
        let prefetch = if is_once {
            1
        } else {
            u16::try_from(free / 8).unwrap_or(u16::MAX).clamp(1, PREFETCH_MAX)
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
        let mut capacity = self.handler.capacity(self.step_type);
        let in_hand = loop {
            let delivery = tokio::select! {
                biased;
                // No free slot, or the worker is stopping.
                _ = wait_for(&mut capacity, |capacity| capacity.free == 0), if !is_once => break None,
                () = stopped(&mut stopping) => break None,
                delivery = deliveries.next() => match delivery {
                    Some(Ok(delivery)) => delivery,
                    Some(Err(error)) => return Err(problem(&error)),
                    None => return Err(self.ended()),
                },
            };
            let now = *capacity.borrow();
            if is_once && (now.free == 0 || now.is_closed) {
                break Some(delivery);
            }
            self.take(delivery).await;
        };
        // Deliveries in flight arrive before the answer; there may be a free slot again by then.
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
        if let Some(rejected) = task_delivery::deliver(self.handler, self.queue, task).await {
            let RejectedTask { body, receipt, reason } = rejected;
            let from = (self.queue, routing_key.as_str());
            let put = self.consumer.divert(Route::DeadLetter, from, body, &properties, &reason);
            if put.await.is_some() {
                task_delivery::acknowledge_dead_letter(state, receipt).await;
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
async fn wait_for(
    capacity: &mut watch::Receiver<Capacity>,
    is_so: impl Fn(&Capacity) -> bool,
) -> Capacity {
    match capacity.wait_for(|capacity| capacity.is_closed || is_so(capacity)).await {
        Ok(capacity) => *capacity,
        // The worker was dropped.
        Err(_) => Capacity { free: 0, is_closed: true },
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
