//! A service behind RabbitMQ, in some lines of lapin: it declares and binds its own queue, takes
//! tasks, and reports by `step.completed`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;

use crate::kit::upload::{self, Answering, DeadLetter, Services, Task};
pub use crate::kit::upload::{STEPS, completion};
use crate::kit::{PATIENCE, eventually};

/// A connection of a client that knows the exchange.
pub struct Line {
    url: String,
    pub exchange: String,
    _connection: Connection,
    pub channel: Channel,
    pub limits: Limits,
}

/// Of the queues that a line declares, and of the services that take from them.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Beyond it a queue refuses what is published.
    pub max_length: Option<i32>,
    pub prefetch: u16,
}

impl Line {
    pub async fn open(url: &str, exchange: &str) -> Self {
        Self::try_open(url, exchange).await.expect("the broker takes connections")
    }

    async fn try_open(url: &str, exchange: &str) -> lapin::Result<Self> {
        // Without a name behind the slash it is the default virtual host.
        let host = if url.ends_with('/') { "%2f" } else { "" };
        let connection =
            Connection::connect(&format!("{url}{host}"), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let limits = Limits { max_length: None, prefetch: 50 };
        Ok(Self {
            url: url.to_owned(),
            exchange: exchange.to_owned(),
            _connection: connection,
            channel,
            limits,
        })
    }

    /// Declares a queue and binds it.
    pub async fn bind(&self, queue: &str, keys: &[&str]) -> lapin::Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        if let Some(length) = self.limits.max_length {
            arguments.insert("x-max-length".into(), AMQPValue::LongInt(length));
            arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        }
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        self.channel.queue_declare(queue.into(), options, arguments).await?;
        for key in keys {
            let (queue, exchange) = (queue.into(), self.exchange.as_str().into());
            self.channel
                .queue_bind(
                    queue,
                    exchange,
                    (*key).into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await?;
        }
        Ok(())
    }

    pub async fn publish(&self, key: &str, id: &str, body: &[u8]) {
        let properties =
            BasicProperties::default().with_message_id(id.into()).with_delivery_mode(2);
        let exchange = self.exchange.as_str().into();
        self.channel
            .basic_publish(exchange, key.into(), BasicPublishOptions::default(), body, properties)
            .await
            .unwrap()
            .await
            .unwrap();
    }

    pub async fn complete(&self, task: &Value, result: &Value) {
        let body = completion(task, result).to_string();
        self.publish("step.completed", "", body.as_bytes()).await;
    }

    /// The next message of a queue, removed from it.
    pub async fn next(&self, queue: &str) -> Delivery {
        eventually(&format!("a message in {queue}"), || async {
            let got = self
                .channel
                .basic_get(queue.into(), BasicGetOptions { no_ack: true })
                .await
                .unwrap();
            got.map(|message| message.delivery)
        })
        .await
    }

    /// How many messages wait in a queue; those delivered and not acknowledged do not
    /// count.
    pub async fn waiting(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        self.channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .unwrap()
            .message_count()
    }

    /// The three services of a product, each with its own queue.
    pub async fn services(
        &self,
        answer: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Services {
        self.services_of(&STEPS, answer).await
    }

    /// Those of these steps.
    pub async fn services_of(
        &self,
        steps: &[&'static str],
        answer: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Services {
        let seen: Arc<Mutex<Vec<Task>>> = Arc::default();
        let answer: Arc<Answering> = Arc::new(answer);
        let mut working = Vec::new();
        for step in steps.iter().copied() {
            let (url, exchange, tasks, answer) =
                (self.url.clone(), self.exchange.clone(), seen.clone(), answer.clone());
            let limits = self.limits;
            let (ready, is_ready) = tokio::sync::oneshot::channel();
            working.push(tokio::spawn(async move {
                let mut ready = Some(ready);
                // As services do: the broker may go, and come back.
                loop {
                    if let Err(error) =
                        work(&url, &exchange, limits, step, &tasks, &*answer, &mut ready).await
                    {
                        eprintln!("service of {step}: {error}");
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }));
            tokio::time::timeout(PATIENCE, is_ready)
                .await
                .expect("the service consumes")
                .expect("the service lives");
        }
        Services::new(seen, working)
    }
}

impl upload::Line for Line {
    async fn services(&self, answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Services {
        Self::services(self, answer).await
    }

    async fn publish(&self, routing_key: &str, message_id: &str, body: &str) {
        Self::publish(self, routing_key, message_id, body.as_bytes()).await;
    }

    async fn dead_letter(&self) -> DeadLetter {
        let dead = self.next(&format!("{}.dead", self.exchange)).await;
        let id = dead.properties.message_id().as_ref();
        DeadLetter {
            reason: header(&dead, "x-crux-reason"),
            routing_key: header(&dead, "x-crux-routing-key"),
            message_id: id.map_or_else(String::new, ToString::to_string),
            body: String::from_utf8_lossy(&dead.data).into_owned(),
        }
    }

    async fn dead_letters(&self) -> u64 {
        self.waiting(&format!("{}.dead", self.exchange)).await.into()
    }

    async fn until_empty(&self, routing_key: &str) {
        let queue = match routing_key.strip_prefix("step.") {
            Some("completed") => format!("{}.completions", self.exchange),
            Some(step) => queue(&self.exchange, step),
            None => format!("{}.events", self.exchange),
        };
        eventually(&format!("{queue} is empty"), async || {
            (self.waiting(&queue).await == 0).then_some(())
        })
        .await;
    }
}

/// The name of the queue of a step.
pub fn queue(exchange: &str, step: &str) -> String {
    format!("{exchange}.step.{step}")
}

async fn work(
    url: &str,
    exchange: &str,
    limits: Limits,
    step: &str,
    tasks: &Mutex<Vec<Task>>,
    answer: &Answering,
    ready: &mut Option<tokio::sync::oneshot::Sender<()>>,
) -> lapin::Result<()> {
    // A broker that is on its way up may leave a client without an answer.
    let opened = tokio::time::timeout(Duration::from_secs(4), async {
        let mut line = Line::try_open(url, exchange).await?;
        line.limits = limits;
        let queue = queue(exchange, step);
        line.bind(&queue, &[&format!("step.{step}")]).await?;
        line.channel.basic_qos(limits.prefetch, BasicQosOptions::default()).await?;
        let deliveries = line.channel.basic_consume(
            queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let deliveries = deliveries.await?;
        Ok::<_, lapin::Error>((line, deliveries))
    });
    let Ok(opened) = opened.await else { return Ok(()) };
    let (line, mut deliveries) = opened?;
    if let Some(ready) = ready.take() {
        let _ = ready.send(());
    }
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        let task = task(&delivery);
        let result = answer(&task.body);
        tasks.lock().unwrap().push(task.clone());
        if !result.is_null() {
            let body = completion(&task.body, &result).to_string();
            let key = "step.completed".into();
            let options = BasicPublishOptions::default();
            line.channel
                .basic_publish(
                    exchange.into(),
                    key,
                    options,
                    body.as_bytes(),
                    BasicProperties::default().with_delivery_mode(2),
                )
                .await?
                .await?;
        }
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

pub fn task(delivery: &Delivery) -> Task {
    let properties = &delivery.properties;
    let text = |text: &Option<lapin::types::ShortString>| {
        text.as_ref().map_or_else(String::new, ToString::to_string)
    };
    assert_eq!(*properties.delivery_mode(), Some(2), "a task survives the broker");
    Task {
        routing_key: delivery.routing_key.to_string(),
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        traceparent: header(delivery, "traceparent"),
        body: serde_json::from_slice(&delivery.data).unwrap(),
    }
}

pub fn header(delivery: &Delivery, name: &str) -> String {
    match delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get(name)) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    }
}
