//! Between typed values and the JSON that is recorded and sent. Errors of decoding name the path of
//! the field.
//!
//! What is generic over values is written out, without closures: each would be compiled again for
//! each of a thousand types.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{AsValueRef, Failure, Value};

/// To be recorded or sent. What the compiler generates always encodes.
pub fn encode<T: AsValueRef>(value: &T) -> Result<Box<RawValue>, Failure> {
    raw(&value.as_value_ref())
}

/// As [`encode`], for what is kept as well as sent.
pub fn encode_shared<T: AsValueRef>(value: &T) -> Result<Arc<RawValue>, Failure> {
    raw(&value.as_value_ref()).map(Arc::from)
}

/// Like [`encode`], for values outside the pipeline language.
pub fn raw<T: Serialize + ?Sized>(value: &T) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(value)
        .map_err(|error| Failure::expression(format!("cannot be written as JSON: {error}")))
}

/// From outside or from the journal.
pub fn decode<T: Value>(raw: &RawValue) -> Result<T, String> {
    match T::read(raw) {
        Ok(value) => Ok(value),
        Err(misfit) => Err(misfit.to_string()),
    }
}

/// What has reached a trigger: a record, also where it is opaque.
pub fn arrived<T: Value>(raw: &RawValue) -> Result<T, super::Refusal> {
    if raw.get().starts_with('[') {
        return Err(super::Refusal::Invalid("expected a record, found a list".to_owned()));
    }
    decode(raw).map_err(super::Refusal::Invalid)
}

/// Whether `raw` is a `T`; for contracts and events.
pub fn check<T: Value>(raw: &RawValue) -> Result<(), String> {
    match T::read(raw) {
        Ok(_) => Ok(()),
        Err(misfit) => Err(misfit.to_string()),
    }
}

/// The check of results that nobody reads.
pub fn check_nothing(_: &RawValue) -> Result<(), String> {
    Ok(())
}
