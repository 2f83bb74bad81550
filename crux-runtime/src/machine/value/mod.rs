//! Values of the pipeline language: what each is in Rust, how it is read from JSON, and what of it is written.
//!
//! | in YAML | in Rust |
//! |---|---|
//! | `string`, `integer`, `number`, `boolean` | `String`, `i64`, `f64`, `bool` |
//! | `timestamp`, `duration`, `json` | [`Timestamp`], [`Duration`], [`Json`] |
//! | `T?`, `T[]`, `map<T>` | `Option<T>`, `Vec<T>`, `BTreeMap<String, T>` |
//! | records and enums | generated structs and enums, with the derives of `crux_macros` |
//!
//! A program has thousands of record types. Serde's derives would make code for each of them that is generic over formats, is made again
//! for every format, and needs a second pass under another deserializer to learn the path of a wrong field. Here a record has one small
//! function for reading and one for showing, and all the rest is shared: hundreds of pipelines build in a fraction of the time.

mod duration;
mod opaque;
mod read;
mod show;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::Failure;

pub use duration::{Duration, NotADuration};
pub use jiff::Timestamp;
pub use opaque::Json;
pub use read::{Field, Misfit, deserialize, fields, word};
pub use show::{Parts, Show, ValueRef};

/// A value of the pipeline language.
pub trait Value: Show + Sized {
    /// Reads it from its JSON. The error says where in it something does not fit.
    fn read(json: &RawValue) -> Result<Self, Misfit>;

    /// What a record has where the field is absent; `None`: it must be there.
    fn absent() -> Option<Self> {
        None
    }
}

/// A declared record: a struct whose fields are values, with the derive of the same name.
pub trait Record {
    /// Reads it from its object, by way of [`fields`].
    fn of(json: &RawValue) -> Result<Self, Misfit>
    where
        Self: Sized;

    /// Calls `visit` for each field in order, with its name in JSON.
    fn each(&self, visit: &mut dyn FnMut(&'static str, ValueRef<'_>));
}

impl<R: Record> Value for R {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        R::of(json)
    }
}

/// Values that serde knows.
macro_rules! leaf {
    ($($type:ty),*) => {
        $(impl Value for $type {
            fn read(json: &RawValue) -> Result<Self, Misfit> {
                read::leaf(json)
            }
        })*
    };
}

leaf!(String, i64, f64, bool, Duration, Failure, ());

/// Its parser tells of digits and bytes; people need to see how one is written.
impl Value for Timestamp {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        let text: String = read::leaf(json)?;
        text.parse().map_err(|_| Misfit::unlike(&text, "a timestamp such as 2026-11-28T05:00:00Z"))
    }
}

impl Value for Json {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        Self::keep(json.to_owned()).ok_or_else(|| Misfit::new("must not be null"))
    }
}

impl<T: Value> Value for Option<T> {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        if json.get() == "null" { Ok(None) } else { T::read(json).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A result that several steps read.
impl<T: Value> Value for Arc<T> {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        T::read(json).map(Self::new)
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        let elements = read::elements(json)?;
        let mut list = Self::with_capacity(elements.len());
        for (index, element) in elements.into_iter().enumerate() {
            list.push(T::read(element).map_err(|misfit| misfit.at(index))?);
        }
        Ok(list)
    }
}

impl<T: Value> Value for BTreeMap<String, T> {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        let mut map = Self::new();
        for (key, value) in read::entries(json)? {
            let value = T::read(value).map_err(|misfit| misfit.within(&key))?;
            map.insert(key, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Enum, Record, Serde, json};

    #[derive(Debug, Clone, Copy, PartialEq, Enum, Serde)]
    enum Channel {
        #[json(name = "e-mail")]
        EMail,
        #[json(name = "sms")]
        Sms,
    }

    #[derive(Debug, PartialEq, Record, Serde)]
    struct Line {
        sku: String,
        price: f64,
    }

    #[derive(Debug, PartialEq, Record, Serde)]
    struct Order {
        #[json(name = "orderId")]
        order_id: String,
        r#type: Channel,
        lines: Vec<Line>,
        stock: BTreeMap<String, Option<i64>>,
        note: Option<String>,
        patience: Duration,
        at: Timestamp,
        extra: Json,
        #[json(default = yes)]
        gift: bool,
    }

    fn yes() -> bool {
        true
    }

    const ORDER: &str = concat!(
        r#"{"orderId":"A\"1","type":"e-mail","lines":[{"sku":"s","price":1.5}],"stock":{"a":7,"b":null},"patience":"1h30m","#,
        r#""at":"2026-11-28T05:00:00Z","extra":{"b":1.50, "a":[1]},"gift":false}"#
    );

    fn read(text: &str) -> Result<Order, String> {
        json::decode(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn a_record_is_written_as_it_was_read_and_its_absent_fields_are_not_written() {
        let order = read(ORDER).unwrap();
        assert_eq!((order.order_id.as_str(), order.r#type, order.gift), ("A\"1", Channel::EMail, false));
        assert_eq!(json::encode(&order).unwrap().get(), ORDER);
        assert_eq!(Channel::EMail.to_string(), "e-mail");
        let short = ORDER.replace(r#","gift":false"#, r#","gift":null,"note":null,"unknown":[{}]"#);
        assert_eq!(read(&short), Ok(Order { gift: true, ..order }));
    }

    #[test]
    fn a_secret_that_does_not_fit_is_not_quoted() {
        #[derive(Debug, Record)]
        #[allow(dead_code, reason = "only its errors are looked at")]
        struct Login {
            #[json(secret)]
            pin: i64,
        }
        let error = |text: &str| json::decode::<Login>(&RawValue::from_string(text.to_owned()).unwrap()).unwrap_err();
        assert_eq!(error(r#"{"pin":"hunter2"}"#), "pin: it does not fit; it is secret and not shown");
        assert_eq!(error("{}"), "missing field `pin`");
    }

    /// What people give to others and get from them, by serde alone.
    #[test]
    fn serde_reads_and_writes_the_same() {
        let order: Order = serde_json::from_str(ORDER).unwrap();
        assert_eq!(order, read(ORDER).unwrap());
        assert_eq!(serde_json::to_string(&[read(ORDER).unwrap()]).unwrap(), format!("[{ORDER}]"));
        assert_eq!(serde_json::from_value::<Channel>("sms".into()).unwrap(), Channel::Sms);
        let error = serde_json::from_str::<Vec<Line>>(r#"[{"sku":"s","price":"high"}]"#).unwrap_err().to_string();
        assert!(error.starts_with("price: expected a number, found the string \"high\""), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_path() {
        for (from, to, error) in [
            (r#""orderId":"A\"1","#, "", "missing field `orderId`"),
            (r#""orderId":"A\"1""#, r#""orderId":1"#, "orderId: expected a string, found the number 1"),
            (r#""orderId":"A\"1""#, r#""orderId":null"#, "orderId: expected a string, found null"),
            (r#""orderId":"A\"1""#, r#""orderId":"a","orderId":"b""#, "duplicate field `orderId`"),
            ("e-mail", "email", "type: there is no `email`; did you mean `e-mail`?"),
            (r#""e-mail""#, "[]", "type: expected a string, found a list"),
            (r#"{"sku":"s","price":1.5}"#, r#"{"sku":"s","price":1},{"price":2}"#, "lines[1]: missing field `sku`"),
            ("1.5", r#""high""#, "lines[0].price: expected a number, found the string \"high\""),
            (r#"{"sku":"s","price":1.5}"#, r#"["s",1.5]"#, "lines[0]: expected a record, found a list"),
            (r#"[{"sku":"s","price":1.5}]"#, "{}", "lines: expected a list, found a record"),
            (r#""a":7"#, r#""a":7.5"#, "stock.a: expected an integer, found the number 7.5"),
            (r#"{"a":7,"b":null}"#, "5", "stock: expected a record, found the number 5"),
            ("1h30m", "90", "patience: not a duration: write it with units, as in 500ms, 10s or 1h30m"),
            (r#"{"b":1.50, "a":[1]}"#, "null", "extra: must not be null"),
            ("2026-11-28T05:00:00Z", "yesterday", "at: expected a timestamp such as 2026-11-28T05:00:00Z, found the string \"yesterday\""),
            (r#""2026-11-28T05:00:00Z""#, "1764306000", "at: expected a string, found the number 1764306000"),
            ("false", r#""no""#, "gift: expected a boolean, found the string \"no\""),
        ] {
            assert!(ORDER.contains(from), "{from}");
            assert_eq!(read(&ORDER.replacen(from, to, 1)).unwrap_err(), error, "{from} → {to}");
        }
        assert_eq!(read("[1]").unwrap_err(), "expected a record, found a list");
    }
}
