//! How values are written: through one common view, so that the code for a format exists once
//! instead of once per type.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;

use super::{Duration, Json, Record, Timestamp};
use crate::machine::Failure;

/// A value that can be written as JSON.
pub trait AsValueRef {
    fn as_value_ref(&self) -> ValueRef<'_>;
}

/// A borrowed, untyped view of a value.
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
    Record(&'a dyn Record),
}

/// The elements of a list, or the entries of a map.
pub trait Parts {
    /// Calls `visit` for each in order: with its key, that of elements being empty.
    fn each(&self, visit: &mut dyn FnMut(&str, ValueRef<'_>));
}

impl<R: Record> AsValueRef for R {
    fn as_value_ref(&self) -> ValueRef<'_> {
        ValueRef::Record(self)
    }
}

macro_rules! as_value_ref {
    ($($type:ty: $value:ident => $show:expr;)*) => {
        $(impl AsValueRef for $type {
            fn as_value_ref(&self) -> ValueRef<'_> {
                let $value = self;
                $show
            }
        })*
    };
}

as_value_ref! {
    str: text => ValueRef::Text(text);
    String: text => ValueRef::Text(text);
    i64: value => ValueRef::Integer(*value);
    f64: value => ValueRef::Number(*value);
    bool: value => ValueRef::Boolean(*value);
    Timestamp: value => ValueRef::Displayed(value);
    Duration: value => ValueRef::Displayed(value);
    Json: value => ValueRef::Json(value.raw());
    Failure: failure => ValueRef::Map(failure);
    // Of steps without a result.
    (): _nothing => ValueRef::Null;
}

impl<T: AsValueRef> AsValueRef for Option<T> {
    fn as_value_ref(&self) -> ValueRef<'_> {
        self.as_ref().map_or(ValueRef::Null, AsValueRef::as_value_ref)
    }
}

impl<T: AsValueRef> AsValueRef for Arc<T> {
    fn as_value_ref(&self) -> ValueRef<'_> {
        (**self).as_value_ref()
    }
}

impl<T: AsValueRef> AsValueRef for Vec<T> {
    fn as_value_ref(&self) -> ValueRef<'_> {
        ValueRef::List(self)
    }
}

impl<T: AsValueRef> AsValueRef for IndexMap<String, T> {
    fn as_value_ref(&self) -> ValueRef<'_> {
        ValueRef::Map(self)
    }
}

impl<T: AsValueRef> Parts for Vec<T> {
    fn each(&self, visit: &mut dyn FnMut(&str, ValueRef<'_>)) {
        self.iter().for_each(|element| visit("", element.as_value_ref()));
    }
}

impl<T: AsValueRef> Parts for IndexMap<String, T> {
    fn each(&self, visit: &mut dyn FnMut(&str, ValueRef<'_>)) {
        self.iter().for_each(|(key, value)| visit(key, value.as_value_ref()));
    }
}

impl Parts for Failure {
    fn each(&self, visit: &mut dyn FnMut(&str, ValueRef<'_>)) {
        visit("name", ValueRef::Text(&self.name));
        visit("message", ValueRef::Text(&self.message));
    }
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
            Self::Map(entries) => {
                let mut map = to.serialize_map(None)?;
                entries.each(&mut |key, value| {
                    if written.is_ok() {
                        written = map.serialize_entry(key, &value);
                    }
                });
                written?;
                map.end()
            }
            Self::Record(record) => {
                let mut map = to.serialize_map(None)?;
                record.each(&mut |name, value| {
                    if written.is_ok() && !matches!(value, ValueRef::Null) {
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
