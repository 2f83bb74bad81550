//! A letter as AMQP has it: with its properties.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::bus::letter::{self, Done, Sender};

const PERSISTENT: u8 = 2;

/// A message that was refused, for the queue of such.
pub(super) struct Dead {
    pub(super) body: Bytes,
    pub(super) properties: Box<BasicProperties>,
    pub(super) done: Done,
}

/// Where a letter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The exchange, and comes back if no queue is bound to the key.
    Service(&'static str),
    /// The exchange, whoever listens.
    Anybody(&'static str),
    Dead,
}

/// Ready to be published, as often as it takes.
pub(super) struct Letter {
    pub(super) to: To,
    /// The same however often it is published.
    pub(super) id: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    /// How often a queue has not taken it.
    pub(super) refusals: u32,
    sender: Sender,
}

impl From<letter::Letter> for Letter {
    fn from(letter: letter::Letter) -> Self {
        let letter::Letter { to, id, correlation_id, traceparent, body, sender } = letter;
        let to = match to {
            letter::To::Service(key) => To::Service(key),
            letter::To::Anybody(key) => To::Anybody(key),
        };
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_app_id("crux".into());
        if let Ok(id) = ShortString::try_new(id.as_str()) {
            properties = properties.with_message_id(id);
        }
        // A request id that was made of an event's name and id may be longer than the property; it is in the instance's document then.
        if !correlation_id.is_empty()
            && let Ok(correlation_id) = ShortString::try_new(correlation_id.as_str())
        {
            properties = properties.with_correlation_id(correlation_id);
        }
        if !traceparent.is_empty() {
            let mut headers = FieldTable::default();
            headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
            properties = properties.with_headers(headers);
        }
        Self { to, id, properties, body, refusals: 0, sender }
    }
}

impl From<Dead> for Letter {
    fn from(Dead { body, properties, done }: Dead) -> Self {
        let id = properties.message_id().as_ref().map_or_else(String::new, ToString::to_string);
        let properties = properties.with_delivery_mode(PERSISTENT);
        Self { to: To::Dead, id, properties, body, refusals: 0, sender: Sender::Message(done) }
    }
}

impl Letter {
    /// Whether anybody waits for what it asks.
    pub(super) fn is_wanted(&self) -> bool {
        self.sender.is_wanted()
    }

    /// Some queue has it.
    pub(super) async fn arrived(self) {
        self.sender.arrived().await;
    }

    /// Whether it may be published again if it is not known whether the broker has it.
    pub(super) fn is_repeatable(&self) -> bool {
        self.sender.is_repeatable()
    }

    /// Nobody knows whether some queue has it, and it is not published again.
    pub(super) async fn lost(self, reason: String) {
        self.sender.lost(reason).await;
    }

    /// No queue has it.
    pub(super) async fn failed(self, reason: String) {
        self.sender.failed(reason).await;
    }
}
