//! What the bench's service and the floor over RabbitMQ have in common: the least of an AMQP client
//! that loses nothing. One connection publishes, with confirms; another one consumes, and
//! acknowledges many deliveries together.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};

use crate::Outcome;

/// The routing key of the bench's remote steps, and of what is said of them.
pub const TASKS: &str = "step.remote_work";
pub const COMPLETIONS: &str = "step.completed";

/// How long acknowledgements wait to be batched.
pub const ACK_EVERY: Duration = Duration::from_millis(5);
/// Maximum unacknowledged deliveries: what Crux has if nothing is set.
const PREFETCH: u16 = 512;
/// Acknowledged together.
const GROUP: usize = 50;
const PERSISTENT: u8 = 2;

/// Both connections of a client.
pub struct Line {
    exchange: String,
    publishing: Channel,
    consuming: Channel,
    /// They end when these are dropped.
    _connections: [Connection; 2],
}

impl Line {
    /// `exchange` is declared if it is not there.
    pub async fn open(url: &str, exchange: &str) -> Outcome<Self> {
        // Without it lapin reads the path as a virtual host without a name.
        let url = format!("{url}%2f");
        let connect = async || Connection::connect(&url, ConnectionProperties::default()).await;
        let connections = [connect().await?, connect().await?];
        let (publishing, consuming) =
            (connections[0].create_channel().await?, connections[1].create_channel().await?);
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        consuming
            .exchange_declare(exchange.into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await?;
        publishing.confirm_select(ConfirmSelectOptions::default()).await?;
        consuming.basic_qos(PREFETCH, BasicQosOptions { global: false }).await?;
        Ok(Self { exchange: exchange.to_owned(), publishing, consuming, _connections: connections })
    }

    /// Consumes a quorum queue that is bound to that key.
    pub async fn consume(&self, queue: &str, key: &str) -> Outcome<lapin::Consumer> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        self.consuming.queue_declare(queue.into(), durable, arguments).await?;
        let exchange = self.exchange.as_str().into();
        self.consuming
            .queue_bind(
                queue.into(),
                exchange,
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok(self
            .consuming
            .basic_consume(
                queue.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?)
    }

    /// Ends when the broker has confirmed it. All of a line have to be awaited by one task:
    /// confirms are matched by their order.
    pub fn publish(
        &self,
        key: &'static str,
        body: Vec<u8>,
        properties: BasicProperties,
    ) -> impl Future<Output = Outcome<()>> + use<> {
        let (channel, exchange) = (self.publishing.clone(), self.exchange.clone());
        async move {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            match channel
                .basic_publish(exchange.into(), key.into(), options, &body, properties)
                .await?
                .await?
            {
                Confirmation::Ack(None) => Ok(()),
                other => Err(format!("a message to {key} did not arrive: {other:?}").into()),
            }
        }
    }

    pub async fn acknowledge(&self, acks: &mut Acks) -> Outcome<()> {
        if let Some(tag) = acks.together() {
            self.consuming.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
        Ok(())
    }
}

/// Durable, JSON.
pub fn properties() -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
}

/// Which deliveries are done.
#[derive(Debug, Default)]
pub struct Acks {
    /// The last that is acknowledged.
    last: u64,
    done: BTreeSet<u64>,
}

impl Acks {
    pub fn done(&mut self, tag: u64) {
        self.done.insert(tag);
    }

    pub fn is_group(&self) -> bool {
        self.done.len() >= GROUP
    }

    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// The last without a gap before it.
    fn together(&mut self) -> Option<u64> {
        let before = self.last;
        while self.done.remove(&(self.last + 1)) {
            self.last += 1;
        }
        (self.last > before).then_some(self.last)
    }
}
