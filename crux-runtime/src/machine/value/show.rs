//! How values are written: through one view of them, so that code for a format exists once and not once for every type.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;

/// A value, looked at.
#[derive(Clone, Copy)]
pub enum ValueRef<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(&'a str),
    /// Written as the text that it is for people: timestamps, durations.
    Displayed(&'a dyn fmt::Display),
    /// As it came.
    Json(&'a RawValue),
    List(&'a dyn Parts),
    Map(&'a dyn Parts),
    /// Its absent fields are not written.
    Record(&'a dyn Parts),
}

/// What is in a list, a map or a record.
pub trait Parts {
    /// Calls `visit` for each in order: with its name in JSON, that of elements being empty.
    fn each(&self, visit: &mut dyn FnMut(&str, ValueRef<'_>));
}

impl Serialize for ValueRef<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // Parts are visited to their end: after an error the rest is passed by.
        let mut written = Ok(());
        match *self {
            Self::Null => to.serialize_unit(),
            Self::Boolean(value) => to.serialize_bool(value),
            Self::Integer(value) => to.serialize_i64(value),
            Self::Number(value) => to.serialize_f64(value),
            Self::Text(text) => to.serialize_str(text),
            Self::Displayed(value) => to.collect_str(value),
            Self::Json(json) => json.serialize(to),
            Self::List(list) => {
                let mut seq = to.serialize_seq(None)?;
                list.each(&mut |_, element| {
                    if written.is_ok() {
                        written = seq.serialize_element(&element);
                    }
                });
                written?;
                seq.end()
            }
            Self::Map(parts) | Self::Record(parts) => {
                let is_record = matches!(self, Self::Record(_));
                let mut map = to.serialize_map(None)?;
                parts.each(&mut |name, value| {
                    let is_absent = is_record && matches!(value, ValueRef::Null);
                    if written.is_ok() && !is_absent {
                        written = map.serialize_entry(name, &value);
                    }
                });
                written?;
                map.end()
            }
        }
    }
}

impl fmt::Debug for ValueRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
