//! Between typed values and the JSON that is recorded and sent. Errors of decoding name the path of the field.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Failure, Value};

/// To be recorded or sent. What the compiler generates always encodes.
pub fn encode<T: Value>(value: &T) -> Result<Box<RawValue>, Failure> {
    raw(&value.show())
}

/// As [`encode`], for what is kept as well as sent.
pub fn encode_shared<T: Value>(value: &T) -> Result<Arc<RawValue>, Failure> {
    encode(value).map(Arc::from)
}

/// What is no value of the pipeline language.
pub fn raw<T: Serialize + ?Sized>(value: &T) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(value).map_err(|error| Failure::expression(format!("cannot be written as JSON: {error}")))
}

/// From outside or from the journal.
pub fn decode<T: Value>(raw: &RawValue) -> Result<T, String> {
    T::read(raw).map_err(|misfit| misfit.to_string())
}

/// What has reached a trigger.
pub fn arrived<T: Value>(raw: &RawValue) -> Result<T, super::Refusal> {
    check_record(raw).and_then(|()| decode(raw)).map_err(super::Refusal::Invalid)
}

/// Whether `raw` is a `T`; for contracts and events.
pub fn check<T: Value>(raw: &RawValue) -> Result<(), String> {
    check_record(raw)?;
    decode::<T>(raw).map(drop)
}

/// What arrives as opaque JSON is a record too.
fn check_record(raw: &RawValue) -> Result<(), String> {
    if raw.get().starts_with('[') { Err("expected a record, found a list".to_owned()) } else { Ok(()) }
}

/// The check of results that nobody reads.
pub fn check_nothing(_: &RawValue) -> Result<(), String> {
    Ok(())
}
