//! Whether two JSON values are equal, regardless of white space, the order of keys and the notation
//! of numbers and strings. Numbers count to their last digit, also those that no type of Rust
//! holds. Nothing that is JSON fails here: what cannot be decoded is compared as it is written, so
//! that nothing is ever taken for absent or for something else.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// What nests deeper is compared as it is written.
const MAX_DEPTH: usize = 128;

/// The same for values that say the same.
pub(crate) fn hash(raw: &RawValue) -> [u8; 32] {
    let mut hash = Sha256::new();
    add(raw, MAX_DEPTH, &mut hash);
    hash.finalize().into()
}

fn add(raw: &RawValue, depth: usize, hash: &mut Sha256) {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{') if depth > 0 => match entries(text) {
            Ok(entries) => add_entries(entries, depth - 1, hash),
            Err(_) => add_scalar(text, hash),
        },
        Some(b'[') if depth > 0 => match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(elements) => {
                hash.update(b"[");
                elements.into_iter().for_each(|element| add(element, depth - 1, hash));
                hash.update(b"]");
            }
            Err(_) => add_scalar(text, hash),
        },
        Some(b'"') => add_scalar(&string(text), hash),
        Some(b'-' | b'0'..=b'9') => add_scalar(&number(text), hash),
        _ => add_scalar(text, hash),
    }
}

fn add_scalar(text: &str, hash: &mut Sha256) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

fn add_entries(entries: Vec<(Cow<'_, str>, &RawValue)>, depth: usize, hash: &mut Sha256) {
    let mut entries: Vec<_> = entries.into_iter().enumerate().collect();
    // Of those with the same key the last one counts, as everywhere.
    entries.sort_by(|(at, (key, _)), (other_at, (other, _))| key.cmp(other).then(other_at.cmp(at)));
    entries.dedup_by(|(_, (key, _)), (_, (kept, _))| key == kept);
    hash.update(b"{");
    for (_, (key, value)) in entries {
        add_scalar(&key, hash);
        add(value, depth, hash);
    }
    hash.update(b"}");
}

/// The entries of an object, in their order. A key that is not a string (half of a surrogate pair)
/// is as it is written.
pub(crate) fn entries(text: &str) -> serde_json::Result<Vec<(Cow<'_, str>, &RawValue)>> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a record")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                let key = serde_json::from_str::<String>(key.get())
                    .map_or(Cow::Borrowed(key.get()), Cow::Owned);
                entries.push((key, value));
            }
            Ok(entries)
        }
    }

    serde_json::Deserializer::from_str(text).deserialize_map(Entries)
}

/// A string as it is written by us, if it is one at all.
fn string(text: &str) -> Cow<'_, str> {
    match serde_json::from_str::<String>(text) {
        Ok(value) => serde_json::Value::String(value).to_string().into(),
        Err(_) => text.into(),
    }
}

/// A number to its last digit: as a double is written where it is one exactly, else its digits and
/// its exponent.
fn number(text: &str) -> Cow<'_, str> {
    if text != "-0" && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return text.into();
    }
    let exact = Decimal::of(text);
    match text.parse::<f64>() {
        Ok(double) if double.is_finite() => {
            let written = serde_json::Value::from(double).to_string();
            if Decimal::of(&written) == exact { written.into() } else { exact.to_string().into() }
        }
        _ => exact.to_string().into(),
    }
}

/// A decimal number: its digits without zeros at either end, as a whole number, times ten to the
/// power of its exponent. An exponent beyond all bounds is at its bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i128,
}

impl Decimal {
    /// Of a number of JSON.
    pub(crate) fn of(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (is_negative, mantissa) =
            mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        let shift = (all.len() - digits.len()) as i128 - fraction.len() as i128;
        let bound = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
        let exponent = i128::from(exponent.parse::<i64>().unwrap_or(bound)) + shift;
        let digits = digits.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            Self { is_negative: false, digits, exponent: 0 }
        } else {
            Self { is_negative, digits, exponent }
        }
    }
}

impl Decimal {
    /// Its value, if it is a whole number of 64 bits.
    pub(crate) fn integer(&self) -> Option<i64> {
        if self.digits.is_empty() {
            return Some(0);
        }
        // More zeros than that no such number has.
        let zeros = usize::try_from(self.exponent).ok().filter(|zeros| *zeros < 20)?;
        let sign = if self.is_negative { "-" } else { "" };
        format!("{sign}{}{}", self.digits, "0".repeat(zeros)).parse().ok()
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_negative { "-" } else { "" };
        write!(f, "{sign}{}e{}", self.digits, self.exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(text: &str) -> [u8; 32] {
        hash(&RawValue::from_string(text.to_owned()).expect("a test's JSON is JSON"))
    }

    #[test]
    fn the_same_however_it_is_written() {
        for (left, right) in [
            (r#"{"a":1,"b":[true,null]}"#, r#"{ "b" : [ true, null ], "a" : 1 }"#),
            (r#""é""#, r#""\u00e9""#),
            (r#"{"é":1}"#, r#"{"\u00e9":1}"#),
            ("[1.50, 1e2]", "[1.5,1.0E+2]"),
            ("[1e400]", "[10.0e399]"),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        ] {
            assert_eq!(hash_of(left), hash_of(right), "{left} and {right}");
        }
    }

    #[test]
    fn whatever_differs_differs_also_where_no_type_of_rust_holds_it() {
        let values = [
            "1",
            "12",
            r#""1""#,
            "[1,2]",
            "[[1],2]",
            "9007199254740992",
            "9007199254740993",
            "123456789012345678901234567890",
            "123456789012345678901234567891",
            "0.1",
            "0.10000000000000000000001",
            "1e400",
            "1e401",
            "-1e400",
            r#""great \ud83d""#,
            r#""great \ud83e""#,
            r#"{"\udc00":1}"#,
            r#"{"\udc01":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{"b":2}}"#,
            "null",
            "{}",
            "[]",
        ];
        let hashes: std::collections::BTreeSet<_> =
            values.iter().map(|value| hash_of(value)).collect();
        assert_eq!(hashes.len(), values.len());
    }

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        let integer = |text: &str| Decimal::of(text).integer();
        assert_eq!(
            (integer("1.0"), integer("-1e3"), integer("0.0")),
            (Some(1), Some(-1000), Some(0))
        );
        assert_eq!(
            (integer("9223372036854775807.0"), integer("-9223372036854775808.0")),
            (Some(i64::MAX), Some(i64::MIN))
        );
        assert_eq!(
            (integer("9223372036854775808"), integer("1.5"), integer("1e99")),
            (None, None, None)
        );
    }

    /// Journals and request ids of earlier versions hold these.
    #[test]
    fn what_is_ordinary_has_the_hash_that_it_always_had() {
        fn add(value: &serde_json::Value, hash: &mut Sha256) {
            match value {
                serde_json::Value::Object(fields) => {
                    let mut keys: Vec<&String> = fields.keys().collect();
                    keys.sort();
                    hash.update(b"{");
                    for key in keys {
                        add_scalar(key, hash);
                        add(&fields[key], hash);
                    }
                    hash.update(b"}");
                }
                serde_json::Value::Array(elements) => {
                    hash.update(b"[");
                    elements.iter().for_each(|element| add(element, hash));
                    hash.update(b"]");
                }
                scalar => add_scalar(&scalar.to_string(), hash),
            }
        }
        let text = r#"{"id":"A\"1\n","lines":[{"sku":"s","price":1.50,"n":-7}],"big":1e10,"small":1.25e-9,"yes":true,"no":null,"e":[]}"#;
        let mut before = Sha256::new();
        add(&serde_json::from_str(text).expect("JSON"), &mut before);
        assert_eq!(hash_of(text), <[u8; 32]>::from(before.finalize()));
    }

    #[test]
    fn depth_has_no_effect_on_the_stack() {
        let deep = |n: usize, inner: &str| format!("{}{inner}{}", "[".repeat(n), "]".repeat(n));
        assert_ne!(hash_of(&deep(100_000, "1")), hash_of(&deep(100_000, "2")));
    }
}
