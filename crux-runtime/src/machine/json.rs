//! Between typed values and the JSON that is recorded and sent. Errors of decoding name the path of the field.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Failure;
use crate::wording::plain;

/// To be recorded or sent. Types that the compiler generates always encode; a number that JSON cannot hold is the step's failure.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(value).map_err(|error| Failure::expression(format!("cannot be written as JSON: {error}")))
}

/// As [`encode`], for what is kept as well as sent.
pub fn encode_shared<T: Serialize + ?Sized>(value: &T) -> Result<Arc<RawValue>, Failure> {
    encode(value).map(Arc::from)
}

/// From outside or from the journal.
pub fn decode<T: DeserializeOwned>(raw: &RawValue) -> Result<T, String> {
    serde_json::from_str(raw.get()).map_err(|error| describe::<T>(raw, &error))
}

/// What has reached a trigger.
pub fn arrived<T: DeserializeOwned>(raw: &RawValue) -> Result<T, super::Refusal> {
    check_record(raw).and_then(|()| decode(raw)).map_err(super::Refusal::Invalid)
}

/// Whether `raw` is a `T`; for contracts and events.
pub fn check<T: DeserializeOwned>(raw: &RawValue) -> Result<(), String> {
    check_record(raw)?;
    decode::<T>(raw).map(drop)
}

/// Serde would take a list for a record, field by field.
fn check_record(raw: &RawValue) -> Result<(), String> {
    if raw.get().starts_with('[') { Err("expected a record, found a list".to_owned()) } else { Ok(()) }
}

/// The check of results that nobody reads.
pub fn check_nothing(_: &RawValue) -> Result<(), String> {
    Ok(())
}

/// The slow way, only after the fast one has failed: find out where. serde_json knows line and column; the path is what people need.
fn describe<T: DeserializeOwned>(raw: &RawValue, error: &serde_json::Error) -> String {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => error.to_string(),
        Err(traced) => {
            let path = traced.path().to_string();
            let inner = traced.into_inner();
            let text = inner.to_string();
            // "missing field `x` at line 1 column 9": the place in one line of JSON says nothing.
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head);
            let text = plain(text);
            if path == "." { text } else { format!("{path}: {text}") }
        }
    }
}
