//! Publishes events to RabbitMQ that start workflows: an `order.created` for each order that is
//! named. With `bus: rabbitmq`, `crux serve` starts the workflow `order` for each of them, once,
//! however often it is published under the same id.
//!
//! ```text
//! cargo run --example publisher -- ORD-1 ORD-2
//! ```

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::{Value, json};

const PERSISTENT: u8 = 2;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Publishes to one exchange; returns only when the broker has what was published.
pub struct Publisher {
    channel: Channel,
    exchange: String,
    // The channel's; it ends with it.
    _connection: Connection,
}

impl Publisher {
    pub async fn connect(url: &str, exchange: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        // Without it the broker never says whether it has a message.
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { channel, exchange: exchange.to_owned(), _connection: connection })
    }

    /// An event under its name. The same `id` again is the same event: a publisher that is not sure
    /// publishes it again. The error: the broker does not have it, or nobody has bound a queue to
    /// such events.
    pub async fn publish(&self, event: &str, id: &str, data: &Value) -> Result<()> {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(id.into());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let body = data.to_string();
        let (exchange, event) = (self.exchange.as_str().into(), event.into());
        let confirm = self
            .channel
            .basic_publish(exchange, event, options, body.as_bytes(), properties)
            .await?
            .await?;
        match confirm {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => {
                Err("no queue takes such events: does `crux serve` run with `bus: rabbitmq`?"
                    .into())
            }
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                Err("the broker did not take it".into())
            }
        }
    }
}

#[tokio::main]
#[allow(dead_code, reason = "a test takes the rest")]
async fn main() -> Result<()> {
    let setting =
        |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let url = setting("RABBITMQ_URL", "amqp://guest:guest@localhost:5672/%2f");
    let publisher = Publisher::connect(&url, &setting("EXCHANGE", "workflow_exchange")).await?;
    for order in std::env::args().skip(1) {
        let data = json!({"orderId": order, "customerId": "CUST-89101", "bookingTime": "2025-08-21T14:25:36Z"});
        publisher.publish("order.created", &format!("order.created/{order}"), &data).await?;
        println!("order.created {order}");
    }
    Ok(())
}
