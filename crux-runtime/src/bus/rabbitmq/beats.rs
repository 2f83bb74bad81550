//! What a node hears of workers in other processes: it has a queue for that of its own, which is gone with its connection.

use futures_util::StreamExt;
use lapin::Connection;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::connection::{Problem, problem};
use super::consumer::Consumer;
use crate::bus::keys::WORKERS;
use crate::bus::roster::Said;

/// Beats that a node has not looked at yet; the oldest go when there are more.
const MAX_BEATS: i64 = 10_000;

impl Consumer {
    /// Declares the queue, and gives what comes in to the roster until the connection is lost.
    pub(super) async fn hear_beats(&self, connection: &Connection) -> Result<impl Future<Output = Problem> + use<>, Problem> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Problem::Lost(format!("no randomness from the system: {error}")))?;
        let queue = self.topology.beats(&format!("{:016x}", u64::from_be_bytes(random)));
        let open = async {
            let channel = connection.create_channel().await?;
            let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
            let mut arguments = FieldTable::default();
            arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MAX_BEATS));
            channel.queue_declare(queue.as_str().into(), options, arguments).await?;
            let exchange = self.topology.exchange.as_str();
            let bind = QueueBindOptions::default();
            channel.queue_bind(queue.as_str().into(), exchange.into(), WORKERS.into(), bind, FieldTable::default()).await?;
            let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
            let beats = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
            Ok((channel, beats))
        };
        let (channel, mut beats) = open.await.map_err(|error| problem(&error))?;
        let roster = self.roster.clone();
        Ok(async move {
            // It lives as long as this.
            let _channel = channel;
            loop {
                match beats.next().await {
                    Some(Ok(beat)) => match serde_json::from_slice::<Said>(&beat.data) {
                        Ok(said) => roster.hear(said),
                        Err(error) => tracing::debug!(%error, "a worker's sign of life cannot be understood"),
                    },
                    Some(Err(error)) => return problem(&error),
                    None => return Problem::Lost("RabbitMQ has ended the consumption of the workers' signs of life".to_owned()),
                }
            }
        })
    }
}
