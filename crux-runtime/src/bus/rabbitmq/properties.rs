//! The AMQP properties of an envelope.

use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::bus::broker::envelope;
use crate::bus::broker::envelope::{PublishCallback, ReplyHandle};

const PERSISTENT: u8 = 2;
/// Reasons are cut here, so that they fit into a header with everything else.
const REASON_BYTES_MAX: usize = 2048;
/// As what a message came with.
const PROPERTIES_BYTES_MAX: usize = 8192;
/// Arrays and tables in each other.
const NESTING_MAX: usize = 8;

/// A message on its way to the dead-letter queue, or to be parked.
pub(super) struct DivertedMessage {
    pub(super) to: Route,
    pub(super) body: Bytes,
    pub(super) properties: Box<BasicProperties>,
    pub(super) done: PublishCallback,
}

/// Where an envelope goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// The exchange, and comes back if no queue is bound to the key.
    Service(&'static str),
    /// The exchange: all subscribers of the key.
    Subscribers(&'static str),
    /// The dead-letter queue.
    DeadLetter,
    /// The queue of parked messages, for redelivery.
    Parked,
}

/// An envelope with its AMQP properties, ready to be published.
pub(super) struct AmqpMessage {
    pub(super) to: Route,
    /// The same however often it is published.
    pub(super) id: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    /// How often a queue has rejected it.
    pub(super) refusals: u32,
    reply_handle: ReplyHandle,
}

impl From<envelope::Envelope> for AmqpMessage {
    fn from(envelope: envelope::Envelope) -> Self {
        let envelope::Envelope { to, id, correlation_id, traceparent, body, reply_handle } =
            envelope;
        let to = match to {
            envelope::Destination::Service(key) => Route::Service(key),
            envelope::Destination::Subscribers(key) => Route::Subscribers(key),
        };
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_app_id("crux".into());
        if let Ok(id) = ShortString::try_new(id.as_str()) {
            properties = properties.with_message_id(id);
        }
        // A request id that was made of an event's name and id may be longer than the property; it
        // is in the instance's document then.
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
        Self { to, id, properties, body, refusals: 0, reply_handle }
    }
}

impl From<DivertedMessage> for AmqpMessage {
    fn from(DivertedMessage { to, body, properties, done }: DivertedMessage) -> Self {
        let id = properties.message_id().as_ref().map_or_else(String::new, ToString::to_string);
        Self {
            to,
            id,
            properties: *properties,
            body,
            refusals: 0,
            reply_handle: ReplyHandle::Message(done),
        }
    }
}

/// Properties of a dead-lettered or parked message. What it came with is there as a text: the broker
/// acts on properties, such as `CC`, which would send it to other queues as well, `user_id`, with
/// which only that user may publish, or `expiration`.
pub(super) fn diverted_properties(
    came_with: &BasicProperties,
    about: &[(&str, &str)],
    expires: Option<Duration>,
) -> BasicProperties {
    let text = |name: &str| match came_with
        .headers()
        .as_ref()
        .and_then(|headers| headers.inner().get(name))
    {
        Some(AMQPValue::LongString(text)) => {
            Some(String::from_utf8_lossy(text.as_bytes()).into_owned())
        }
        _ => None,
    };
    let mut headers = FieldTable::default();
    let mut say = |name: &str, text: &str, most: usize| {
        let text = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
        headers.insert(name.into(), AMQPValue::LongString(text.into()));
    };
    for (name, text) in about {
        say(name, text, REASON_BYTES_MAX);
    }
    if let Some(traceparent) = text("traceparent") {
        say("traceparent", &traceparent, REASON_BYTES_MAX);
    }
    // A message that was parked before keeps its original properties.
    let first = text("x-crux-properties").filter(|_| text("x-crux-routing-key").is_some());
    say("x-crux-properties", &first.unwrap_or_else(|| shown(came_with)), PROPERTIES_BYTES_MAX);
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_app_id("crux".into())
        .with_headers(headers);
    if let Some(id) = came_with.message_id() {
        properties = properties.with_message_id(id.clone());
    }
    if let Some(correlation_id) = came_with.correlation_id() {
        properties = properties.with_correlation_id(correlation_id.clone());
    }
    if let Some(content_type) = came_with.content_type() {
        properties = properties.with_content_type(content_type.clone());
    }
    if let Some(expires) = expires {
        let ms = expires.as_millis().to_string();
        properties = properties.with_expiration(ms.as_str().into());
    }
    properties
}

/// As JSON, without what is not set.
fn shown(properties: &BasicProperties) -> String {
    let mut value = serde_json::to_value(properties).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
        if let Some(headers) = properties.headers() {
            fields.insert("headers".to_owned(), shown_table(headers, 0));
        }
    }
    value.to_string()
}

fn shown_table(table: &FieldTable, depth: usize) -> serde_json::Value {
    table
        .inner()
        .iter()
        .map(|(name, value)| (name.to_string(), shown_value(value, depth)))
        .collect()
}

/// Texts as texts; what is nested too deep is left out.
fn shown_value(value: &AMQPValue, depth: usize) -> serde_json::Value {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        AMQPValue::ShortString(text) => text.to_string().into(),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) if depth >= NESTING_MAX => "…".into(),
        AMQPValue::FieldArray(array) => {
            array.as_slice().iter().map(|value| shown_value(value, depth + 1)).collect()
        }
        AMQPValue::FieldTable(table) => shown_table(table, depth + 1),
        // `{"LongInt": 5}`
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

impl AmqpMessage {
    /// Whether it is a request that someone may still wait for.
    pub(super) fn is_wanted(&self) -> bool {
        self.reply_handle.is_wanted()
    }

    /// Some queue has it.
    pub(super) async fn arrived(self) {
        self.reply_handle.arrived().await;
    }

    /// Whether it may be published again if it is not known whether the broker has it.
    pub(super) fn is_repeatable(&self) -> bool {
        self.reply_handle.is_repeatable()
    }

    /// Nobody knows whether some queue has it, and it is not published again.
    pub(super) async fn lost(self, reason: String) {
        self.reply_handle.lost(reason).await;
    }

    /// No queue has it.
    pub(super) async fn failed(self, reason: String) {
        self.reply_handle.failed(reason).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_has_none_of_the_properties_on_which_a_broker_acts() {
        let mut headers = FieldTable::default();
        headers.insert(
            "CC".into(),
            AMQPValue::FieldArray(vec![AMQPValue::LongString("crux.completions".into())].into()),
        );
        let came_with = BasicProperties::default()
            .with_headers(headers)
            .with_user_id("svc".into())
            .with_expiration("2000".into())
            .with_priority(9)
            .with_message_id("m".into());
        let diverted = diverted_properties(
            &came_with,
            &[("x-crux-reason", &"ä".repeat(REASON_BYTES_MAX))],
            None,
        );
        assert_eq!(
            (diverted.user_id(), diverted.expiration(), diverted.priority()),
            (&None, &None, &None)
        );
        let headers = diverted.headers().as_ref().unwrap().inner();
        assert!(!headers.contains_key("CC"));
        let text = |name: &str| match headers.get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => panic!("{name}: {other:?}"),
        };
        for word in ["crux.completions", "svc", "2000"] {
            assert!(text("x-crux-properties").contains(word), "{}", text("x-crux-properties"));
        }
        assert_eq!(text("x-crux-reason").len(), REASON_BYTES_MAX);
        // However often it is parked, it has its original properties, and no more.
        let about = [("x-crux-routing-key", "step.completed")];
        let parked = super::diverted_properties(&came_with, &about, Some(Duration::from_secs(60)));
        assert_eq!(parked.expiration().as_ref().map(ToString::to_string).as_deref(), Some("60000"));
        assert_eq!(
            super::diverted_properties(&parked, &about, Some(Duration::from_secs(60))),
            parked
        );
        assert_eq!(diverted.message_id().as_ref().map(ToString::to_string).as_deref(), Some("m"));
    }
}
