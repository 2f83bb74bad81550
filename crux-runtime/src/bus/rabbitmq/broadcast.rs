//! Broadcasts: workers' heartbeats to nodes, and nodes' cancellations to workers.
//! Each receiver has its own queue, which is deleted with its connection.

use futures_util::StreamExt;
use lapin::Connection;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::bus::rabbitmq::connection::{Problem, problem};
use crate::bus::rabbitmq::consumer::Consumer;

/// Messages that were not looked at yet; the oldest go when there are more.
const BROADCAST_QUEUE_LEN_MAX: i64 = 10_000;

impl Consumer {
    /// Declares a queue for that key, and gives what comes in to `handle` until the connection is
    /// lost. `what`: a word of the queue's name.
    pub(super) async fn listen<F: Fn(&[u8])>(
        &self,
        connection: &Connection,
        routing_key: &'static str,
        what: &str,
        handle: F,
    ) -> Result<impl Future<Output = Problem> + use<F>, Problem> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Problem::Lost(format!("no randomness from the system: {error}")))?;
        let queue = self.topology.broadcast_queue(what, u64::from_be_bytes(random));
        let open = async {
            let channel = connection.create_channel().await?;
            let options =
                QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
            let mut arguments = FieldTable::default();
            arguments
                .insert("x-max-length".into(), AMQPValue::LongLongInt(BROADCAST_QUEUE_LEN_MAX));
            channel.queue_declare(queue.as_str().into(), options, arguments).await?;
            let exchange = self.topology.exchange.as_str();
            let bind = QueueBindOptions::default();
            channel
                .queue_bind(
                    queue.as_str().into(),
                    exchange.into(),
                    routing_key.into(),
                    bind,
                    FieldTable::default(),
                )
                .await?;
            let options =
                BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
            let said = channel
                .basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default())
                .await?;
            Ok((channel, said))
        };
        let (channel, mut said) = open.await.map_err(|error| problem(&error))?;
        let (exchange, rebind) = (self.topology.exchange.clone(), self.options.rebind);
        Ok(async move {
            let mut again = tokio::time::interval(rebind);
            again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let next = tokio::select! {
                    next = said.next() => next,
                    // Another client may have removed the binding.
                    _ = again.tick() => {
                        let (queue, bind) = (queue.as_str().into(), QueueBindOptions::default());
                        let bound = channel.queue_bind(queue, exchange.as_str().into(), routing_key.into(), bind, FieldTable::default());
                        match bound.await {
                            Ok(()) => continue,
                            Err(error) => return problem(&error),
                        }
                    }
                };
                match next {
                    Some(Ok(message)) => handle(&message.data),
                    Some(Err(error)) => return problem(&error),
                    None => {
                        return Problem::Lost(format!(
                            "RabbitMQ has ended the consumption of {queue}"
                        ));
                    }
                }
            }
        })
    }
}
