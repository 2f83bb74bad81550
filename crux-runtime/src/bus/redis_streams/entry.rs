//! Encoding and decoding of stream entries.

use bytes::Bytes;
use redis::Value;

use crate::bus::Incoming;
use crate::bus::broker::envelope::Envelope;
use crate::redis_client::Error;

/// An entry that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// `1764000000000-0`.
    pub id: String,
    /// Names and values; `None`: it was deleted in the meantime.
    pub fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// Names and values of what is published, in turn.
pub(super) fn fields(routing_key: &str, envelope: &Envelope) -> Vec<Vec<u8>> {
    let pairs: [(&str, &[u8]); 5] = [
        ("routing_key", routing_key.as_bytes()),
        ("message_id", envelope.id.as_bytes()),
        ("correlation_id", envelope.correlation_id.as_bytes()),
        ("traceparent", envelope.traceparent.as_bytes()),
        ("body", &envelope.body),
    ];
    pairs.into_iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.to_vec()]).collect()
}

impl Entry {
    /// The error: what is wrong with it.
    pub fn incoming(&self, routing_key: &str) -> Result<Incoming, String> {
        let body = self.field("body").ok_or("the entry has no field `body`")?;
        let text = |name| self.field(name).map(|value| String::from_utf8_lossy(value).into_owned());
        Ok(Incoming {
            routing_key: routing_key.to_owned(),
            // An entry is the same one however often it is delivered.
            message_id: Some(
                text("message_id").filter(|id| !id.is_empty()).unwrap_or_else(|| self.id.clone()),
            ),
            correlation_id: text("correlation_id").unwrap_or_default(),
            traceparent: text("traceparent").unwrap_or_default(),
            body: Bytes::copy_from_slice(body),
        })
    }

    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields.iter().flatten();
        fields.find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value.as_slice())
    }
}

/// The response of `XREADGROUP` for one stream; empty after its timeout.
pub(super) fn read(answer: Value) -> Result<Vec<Entry>, Error> {
    let entries = match answer {
        Value::Nil => return Ok(Vec::new()),
        Value::Array(mut streams) => match streams.pop() {
            Some(Value::Array(mut stream)) => stream.pop().and_then(entries),
            _ => None,
        },
        _ => None,
    };
    entries.ok_or_else(unreadable)
}

/// The response of `XRANGE` and `XREVRANGE`.
pub(super) fn listed(answer: Value) -> Result<Vec<Entry>, Error> {
    entries(answer).ok_or_else(unreadable)
}

/// The response of `XAUTOCLAIM`: the next cursor, and the entries.
pub(super) fn claimed(answer: Value) -> Result<(String, Vec<Entry>), Error> {
    let read = |answer| {
        let Value::Array(words) = answer else { return None };
        let mut words = words.into_iter();
        Some((text(words.next()?)?, entries(words.next()?)?))
    };
    read(answer).ok_or_else(unreadable)
}

fn entries(value: Value) -> Option<Vec<Entry>> {
    let Value::Array(list) = value else { return None };
    // Redis before 7 gives nothing in place of a deleted one.
    list.into_iter().filter(|value| *value != Value::Nil).map(entry).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let Value::Array(words) = value else { return None };
    let mut words = words.into_iter();
    let id = text(words.next()?)?;
    let fields = match words.next()? {
        Value::Nil => None,
        Value::Array(list) => {
            let list = list.into_iter().map(bytes).collect::<Option<Vec<Vec<u8>>>>()?;
            let mut list = list.into_iter();
            Some(std::iter::from_fn(|| Some((list.next()?, list.next()?))).collect())
        }
        _ => return None,
    };
    Some(Entry { id, fields })
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

fn unreadable() -> Error {
    Error::Broken("Redis: entries of a stream cannot be read".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn list(values: &[Value]) -> Value {
        Value::Array(values.to_vec())
    }

    #[test]
    fn entries_of_a_read_and_of_a_claim() {
        let full =
            list(&[word("1-0"), list(&[word("body"), word("{}"), word("message_id"), word("m")])]);
        let deleted = list(&[word("2-0"), Value::Nil]);
        let came = read(list(&[list(&[word("key"), list(&[full.clone(), deleted])])])).unwrap();
        assert_eq!(came.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["1-0", "2-0"]);
        assert_eq!(came[1].fields, None);
        let incoming = came[0].incoming("order.paid").unwrap();
        assert_eq!(
            (incoming.routing_key.as_str(), incoming.message_id.as_deref()),
            ("order.paid", Some("m"))
        );
        assert_eq!(read(Value::Nil).unwrap(), []);
        let (cursor, claimed) = claimed(list(&[word("0-0"), list(&[full]), list(&[])])).unwrap();
        assert_eq!((cursor.as_str(), claimed.len()), ("0-0", 1));
        assert!(read(Value::Int(1)).is_err());
    }

    #[test]
    fn an_entry_without_an_id_has_that_of_the_stream_and_one_without_a_body_is_refused() {
        let entry = |fields: &[(&str, &str)]| Entry {
            id: "7-1".to_owned(),
            fields: Some(
                fields
                    .iter()
                    .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
                    .collect(),
            ),
        };
        assert_eq!(
            entry(&[("body", "1")]).incoming("a").unwrap().message_id.as_deref(),
            Some("7-1")
        );
        assert!(entry(&[("data", "1")]).incoming("a").unwrap_err().contains("`body`"));
    }
}
