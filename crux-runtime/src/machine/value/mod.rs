//! Values of the pipeline language: their Rust types, and how they are read from and written to
//! JSON.
//!
//! | in YAML | in Rust |
//! |---|---|
//! | `string`, `integer`, `number`, `boolean` | `String`, `i64`, `f64`, `bool` |
//! | `timestamp`, `duration`, `json` | [`Timestamp`], [`Duration`], [`Json`] |
//! | `T?`, `T[]`, `map<T>` | `Option<T>`, `Vec<T>`, [`IndexMap<String, T>`](IndexMap) |
//! | records and enums | generated structs and enums, with the derives of `crux_macros` |
//!
//! A program has thousands of record types. Serde's derives would make code for each of them that
//! is generic over formats, is made again for every format, and needs a second pass under another
//! deserializer to learn the path of a wrong field. Here a record has one small function for
//! reading and one for writing, and all the rest is shared: hundreds of pipelines build in a
//! fraction of the time.

mod duration;
mod json_value;
mod read;
mod value_ref;

use std::sync::Arc;

use jiff::fmt::temporal::Pieces;
use serde_json::value::RawValue;

use super::Failure;
use crate::canonical::Decimal;

pub use duration::{Duration, NotADuration};
pub use indexmap::IndexMap;
pub use jiff::Timestamp;
pub use json_value::Json;
pub use read::{Field, TypeError, deserialize, fields, word};
pub use value_ref::{AsValueRef, Parts, ValueRef};

/// A value of the pipeline language.
pub trait Value: AsValueRef + Sized {
    /// Reads it from its JSON. The error says where in it something does not fit.
    fn read(json: &RawValue) -> Result<Self, TypeError>;

    /// The default of an absent field; `None`: the field is required.
    fn absent() -> Option<Self> {
        None
    }
}

/// A declared record: a struct whose fields are values, with the derive of the same name.
pub trait Record {
    /// Reads it from its object, by way of [`fields`].
    fn of(json: &RawValue) -> Result<Self, TypeError>
    where
        Self: Sized;

    /// Calls `visit` for each field in order, with its name in JSON.
    fn each(&self, visit: &mut dyn FnMut(&'static str, ValueRef<'_>));
}

impl<R: Record> Value for R {
    fn read(json: &RawValue) -> Result<Self, TypeError> {
        R::of(json)
    }
}

/// Values that serde knows.
macro_rules! leaf {
    ($($type:ty),*) => {
        $(impl Value for $type {
            fn read(json: &RawValue) -> Result<Self, TypeError> {
                read::leaf(json)
            }
        })*
    };
}

leaf!(String, f64, bool, Duration, Failure, ());

/// As JSON Schema has it, which has one kind of number: `1.0` is an integer.
impl Value for i64 {
    fn read(json: &RawValue) -> Result<Self, TypeError> {
        read::leaf(json).or_else(|error| whole(json.get()).ok_or(error))
    }
}

/// Of JSON that is a number.
fn whole(json: &str) -> Option<i64> {
    let is_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    if is_number { Decimal::of(json).integer() } else { None }
}

/// What is said of a time that is beyond them.
const TIMES: &str = "a timestamp from -009999-01-02T01:59:59Z to 9999-12-30T22:00:00.999999999Z, for no other can be kept";

/// Its parser tells of digits and bytes; people need to see how one is written.
impl Value for Timestamp {
    fn read(json: &RawValue) -> Result<Self, TypeError> {
        let text: String = read::leaf(json)?;
        text.parse().map_err(|_| {
            // Whether only the instant is impossible.
            let is_a_time = Pieces::parse(&text)
                .is_ok_and(|pieces| pieces.offset().is_some() && pieces.time().is_some());
            let expected =
                if is_a_time { TIMES } else { "a timestamp such as 2026-11-28T05:00:00Z" };
            TypeError::unlike(&text, expected)
        })
    }
}

impl Value for Json {
    fn read(json: &RawValue) -> Result<Self, TypeError> {
        Self::keep(json.to_owned()).ok_or_else(|| TypeError::new("must not be null"))
    }
}

impl<T: Value> Value for Option<T> {
    fn read(json: &RawValue) -> Result<Self, TypeError> {
        if json.get() == "null" { Ok(None) } else { T::read(json).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A result that several steps read.
impl<T: Value> Value for Arc<T> {
    fn read(json: &RawValue) -> Result<Self, TypeError> {
        T::read(json).map(Self::new)
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(json: &RawValue) -> Result<Self, TypeError> {
        let elements = read::elements(json)?;
        let mut list = Self::with_capacity(elements.len());
        for (index, element) in elements.into_iter().enumerate() {
            list.push(T::read(element).map_err(|error| error.at(index))?);
        }
        Ok(list)
    }
}

impl<T: Value> Value for IndexMap<String, T> {
    fn read(json: &RawValue) -> Result<Self, TypeError> {
        let entries = read::entries(json)?;
        let mut map = Self::with_capacity(entries.len());
        for (key, value) in entries {
            let value = T::read(value).map_err(|error| error.within(&key))?;
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
        stock: IndexMap<String, Option<i64>>,
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
        r#"{"orderId":"A\"1","type":"e-mail","lines":[{"sku":"s","price":1.5}],"stock":{"z":7,"b":null},"patience":"1h30m","#,
        r#""at":"2026-11-28T05:00:00Z","extra":{"b":1.50, "a":[1]},"gift":false}"#
    );

    fn read(text: &str) -> Result<Order, String> {
        json::decode(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn a_record_is_written_as_it_was_read_and_its_absent_fields_are_not_written() {
        let order = read(ORDER).unwrap();
        assert_eq!(
            (order.order_id.as_str(), order.r#type, order.gift),
            ("A\"1", Channel::EMail, false)
        );
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
        let error = |text: &str| {
            json::decode::<Login>(&RawValue::from_string(text.to_owned()).unwrap()).unwrap_err()
        };
        assert_eq!(
            error(r#"{"pin":"hunter2"}"#),
            "pin: it does not fit; it is secret and not shown"
        );
        assert_eq!(error("{}"), "missing field `pin`");
    }

    /// Depends on a feature of serde_json that other packages may switch on or not: this one must
    /// have it by itself.
    #[test]
    fn every_double_and_every_integer_of_64_bits_is_what_it_was() {
        let again = |number: f64| {
            let written = json::encode(&number).unwrap();
            json::decode::<f64>(&written).unwrap()
        };
        let mut bits: u64 = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..20_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let number = f64::from_bits(bits);
            if number.is_finite() {
                assert_eq!(again(number).to_bits(), number.to_bits(), "{number:e}");
                // As other languages write it.
                let text = RawValue::from_string(format!("{number:.17e}")).unwrap();
                assert_eq!(
                    json::decode::<f64>(&text).unwrap().to_bits(),
                    number.to_bits(),
                    "{text}"
                );
            }
            let integer = bits.cast_signed();
            assert_eq!(json::decode::<i64>(&json::encode(&integer).unwrap()), Ok(integer));
        }
        for integer in [i64::MIN, i64::MAX, (1 << 53) + 1] {
            assert_eq!(json::decode::<i64>(&json::encode(&integer).unwrap()), Ok(integer));
        }
    }

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_written() {
        let integer =
            |text: &str| json::decode::<i64>(&RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(
            (integer("1.0"), integer("-2e3"), integer("9223372036854775807.0")),
            (Ok(1), Ok(-2000), Ok(i64::MAX))
        );
        assert_eq!(integer("1.5").unwrap_err(), "expected an integer, found the number 1.5");
        assert!(integer("9223372036854775808").is_err() && integer("1e400").is_err());
    }

    /// What people give to others and get from them, by serde alone.
    #[test]
    fn serde_reads_and_writes_the_same() {
        let order: Order = serde_json::from_str(ORDER).unwrap();
        assert_eq!(order, read(ORDER).unwrap());
        assert_eq!(serde_json::to_string(&[read(ORDER).unwrap()]).unwrap(), format!("[{ORDER}]"));
        assert_eq!(serde_json::from_value::<Channel>("sms".into()).unwrap(), Channel::Sms);
        let error = serde_json::from_str::<Vec<Line>>(r#"[{"sku":"s","price":"high"}]"#)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("price: expected a number, found the string \"high\""),
            "{error}"
        );
    }

    #[test]
    fn a_type_error_names_the_path() {
        for (from, to, error) in [
            (r#""orderId":"A\"1","#, "", "missing field `orderId`"),
            (
                r#""orderId":"A\"1""#,
                r#""orderId":1"#,
                "orderId: expected a string, found the number 1",
            ),
            (r#""orderId":"A\"1""#, r#""orderId":null"#, "orderId: expected a string, found null"),
            (r#""orderId":"A\"1""#, r#""orderId":"a","orderId":"b""#, "duplicate field `orderId`"),
            ("e-mail", "email", "type: there is no `email`; did you mean `e-mail`?"),
            (r#""e-mail""#, "[]", "type: expected a string, found a list"),
            (
                r#"{"sku":"s","price":1.5}"#,
                r#"{"sku":"s","price":1},{"price":2}"#,
                "lines[1]: missing field `sku`",
            ),
            ("1.5", r#""high""#, "lines[0].price: expected a number, found the string \"high\""),
            (
                r#"{"sku":"s","price":1.5}"#,
                r#"["s",1.5]"#,
                "lines[0]: expected a record, found a list",
            ),
            (r#"[{"sku":"s","price":1.5}]"#, "{}", "lines: expected a list, found a record"),
            (r#""z":7"#, r#""z":7.5"#, "stock.z: expected an integer, found the number 7.5"),
            (r#"{"z":7,"b":null}"#, "5", "stock: expected a record, found the number 5"),
            (
                "1h30m",
                "90",
                "patience: not a duration: write it with units, as in 500ms, 10s or 1h30m",
            ),
            (r#"{"b":1.50, "a":[1]}"#, "null", "extra: must not be null"),
            (
                "2026-11-28T05:00:00Z",
                "yesterday",
                "at: expected a timestamp such as 2026-11-28T05:00:00Z, found the string \"yesterday\"",
            ),
            (
                "2026-11-28T05:00:00Z",
                "9999-12-31T23:59:59Z",
                "at: expected a timestamp from -009999-01-02T01:59:59Z to 9999-12-30T22:00:00.999999999Z, for no other can be kept, \
                 found the string \"9999-12-31T23:59:59Z\"",
            ),
            (
                "2026-11-28T05:00:00Z",
                "2026-04-31T05:00:00Z",
                "at: expected a timestamp such as 2026-11-28T05:00:00Z, found the string \"2026-04-31T05:00:00Z\"",
            ),
            (
                r#""2026-11-28T05:00:00Z""#,
                "1764306000",
                "at: expected a string, found the number 1764306000",
            ),
            ("false", r#""no""#, "gift: expected a boolean, found the string \"no\""),
        ] {
            assert!(ORDER.contains(from), "{from}");
            assert_eq!(read(&ORDER.replacen(from, to, 1)).unwrap_err(), error, "{from} → {to}");
        }
        assert_eq!(read("[1]").unwrap_err(), "expected a record, found a list");
    }
}
