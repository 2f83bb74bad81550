//! RabbitMQ: listeners are queues that are bound to the key.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crux_runtime::bus::local::Local;
use crux_runtime::bus::rabbitmq::{self, Options};
use futures_util::future::BoxFuture;
use lapin::message::Delivery;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

use crate::bed::{Bed, Far, Got, app, fresh_name};
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
            if let Some(message) = self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
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
                correlation_id: delivery.properties.correlation_id().as_ref().map_or_else(String::new, ToString::to_string),
                traceparent: header(&delivery, "traceparent"),
                body: serde_json::from_slice(&delivery.data).unwrap(),
            }
        })
    }

    fn send<'a>(&'a self, key: &'a str, id: &'a str, body: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let properties = BasicProperties::default().with_message_id(id.into()).with_delivery_mode(2);
            let exchange = self.exchange.as_str().into();
            let sent = self.channel.basic_publish(exchange, key.into(), BasicPublishOptions::default(), body.as_bytes(), properties);
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

fn open(listeners: &'static [(&'static str, &'static str)]) -> BoxFuture<'static, Bed> {
    Box::pin(async move {
        let (name, url) = (fresh_name(), tokio::task::block_in_place(shared));
        let options = Options { url: url.clone(), exchange: name.clone(), prefix: name.clone(), ..Options::default() };
        let connection = Connection::connect(&format!("{url}%2f"), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.exchange_declare(name.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default()).await.unwrap();
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
        Bed { bus: broker.clone(), broker: Some(broker), far: Box::new(Line { exchange: name, _connection: connection, channel }) }
    })
}

crate::suite! { broker open }
