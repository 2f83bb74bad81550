//! RabbitMQ: listeners are queues that are bound to the key.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crux_runtime::bus::Disposition;
use crux_runtime::bus::broker::Broker;
use crux_runtime::bus::http::Local;
use crux_runtime::bus::rabbitmq::{self, Options};
use futures_util::future::BoxFuture;
use lapin::message::Delivery;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

use crate::harness::{COMPLETED, Far, Got, Harness, RecordingHandler, app, fresh_name, soon};
use crate::rabbit_server::Broker as Server;

/// The broker that tests share; it ends with the process.
fn shared() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start).url()
}

struct Line {
    exchange: String,
    _connection: Connection,
    channel: Channel,
}

impl Line {
    async fn take(&self, queue: &str) -> Delivery {
        loop {
            if let Some(message) = self
                .channel
                .basic_get(queue.into(), BasicGetOptions { no_ack: true })
                .await
                .unwrap()
            {
                return message.delivery;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn header(delivery: &Delivery, name: &str) -> String {
    match delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get(name)) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    }
}

impl Far for Line {
    fn next<'a>(&'a self, key: &'a str, listener: &'a str) -> BoxFuture<'a, Got> {
        Box::pin(async move {
            let delivery = self.take(&format!("{}.{key}.{listener}", self.exchange)).await;
            Got {
                correlation_id: delivery
                    .properties
                    .correlation_id()
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string),
                traceparent: header(&delivery, "traceparent"),
                body: serde_json::from_slice(&delivery.data).unwrap(),
            }
        })
    }

    fn send<'a>(&'a self, key: &'a str, id: &'a str, body: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let properties =
                BasicProperties::default().with_message_id(id.into()).with_delivery_mode(2);
            let exchange = self.exchange.as_str().into();
            let sent = self.channel.basic_publish(
                exchange,
                key.into(),
                BasicPublishOptions::default(),
                body.as_bytes(),
                properties,
            );
            sent.await.unwrap().await.unwrap();
        })
    }

    fn dead(&self) -> BoxFuture<'_, (String, String)> {
        Box::pin(async {
            let delivery = self.take(&format!("{}.dead", self.exchange)).await;
            (String::from_utf8(delivery.data.clone()).unwrap(), header(&delivery, "x-crux-reason"))
        })
    }
}

async fn open_line(listeners: &[(&str, &str)]) -> (Arc<Broker>, Line) {
    let (name, url) = (fresh_name(), tokio::task::block_in_place(shared));
    let options = Options {
        url: url.clone(),
        exchange: name.clone(),
        prefix: name.clone(),
        prefetch: 7,
        parked_retry_delay: Duration::from_secs(1),
        rebind: Duration::from_millis(500),
        ..Options::default()
    };
    let connection =
        Connection::connect(&format!("{url}%2f"), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare(name.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default())
        .await
        .unwrap();
    for (key, listener) in listeners {
        let queue = format!("{name}.{key}.{listener}");
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
        let bind = channel.queue_bind(
            queue.as_str().into(),
            name.as_str().into(),
            (*key).into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.unwrap();
    }
    let pushed = Arc::new(Local::new(&app(), Vec::new(), 1 << 20).unwrap());
    let broker = Arc::new(rabbitmq::open(&app(), options, pushed, &[]).await.unwrap());
    (broker, Line { exchange: name, _connection: connection, channel })
}

fn open(listeners: &'static [(&'static str, &'static str)]) -> BoxFuture<'static, Harness> {
    Box::pin(async move {
        let (broker, line) = open_line(listeners).await;
        Harness { bus: broker.clone(), broker: Some(broker), far: Box::new(line) }
    })
}

crate::suite! { broker "needs rabbitmq-server", open }

/// The broker acts on properties: a `CC` sends a copy to the queue that it was refused from, and so
/// on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn a_dead_letter_goes_nowhere_else_and_does_not_expire() {
    let (broker, line) = open_line(&[]).await;
    let handler =
        RecordingHandler::answering(&[Disposition::DeadLetter("no such thing".to_owned())]);
    broker.consume(handler.clone());
    // A message is for the queue once that is there.
    line.send(COMPLETED, "m-1", "first").await;
    soon(line.dead()).await;
    *handler.answers.lock().unwrap() = vec![Disposition::DeadLetter("neither".to_owned()); 100];
    let (mut headers, completions) =
        (FieldTable::default(), format!("{}.completions", line.exchange));
    headers.insert(
        "CC".into(),
        AMQPValue::FieldArray(vec![AMQPValue::LongString(completions.as_str().into())].into()),
    );
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_user_id("guest".into())
        .with_expiration("400".into());
    let exchange = line.exchange.as_str().into();
    let sent = line
        .channel
        .basic_publish(
            exchange,
            COMPLETED.into(),
            BasicPublishOptions::default(),
            b"second",
            properties,
        )
        .await;
    sent.unwrap().await.unwrap();
    handler.bodies(2).await;
    let buried = soon(line.take(&format!("{}.dead", line.exchange))).await;
    assert_eq!(
        (buried.data.as_slice(), header(&buried, "x-crux-reason").as_str()),
        (&b"second"[..], "neither")
    );
    let came_with = header(&buried, "x-crux-properties");
    for word in ["CC", "guest", "400"] {
        assert!(came_with.contains(word), "{came_with}");
    }
    assert_eq!((buried.properties.user_id(), buried.properties.expiration()), (&None, &None));
    // It did not come again by its `CC`: it would have been before the next.
    line.send(COMPLETED, "m-3", "third").await;
    assert_eq!(handler.bodies(3).await, ["first", "second", "third"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn a_removed_binding_is_made_again() {
    let (broker, line) = open_line(&[]).await;
    let handler = RecordingHandler::answering(&[]);
    broker.consume(handler.clone());
    let completions = format!("{}.completions", line.exchange);
    let mut n = 0;
    for _ in 0..2 {
        // What is sent while it is not bound goes nowhere.
        soon(async {
            let before = handler.came.lock().unwrap().len();
            while handler.came.lock().unwrap().len() == before {
                n += 1;
                line.send(COMPLETED, &format!("m-{n}"), "x").await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        let exchange = line.exchange.as_str().into();
        let unbound = line.channel.queue_unbind(
            completions.as_str().into(),
            exchange,
            COMPLETED.into(),
            FieldTable::default(),
        );
        unbound.await.unwrap();
    }
}
