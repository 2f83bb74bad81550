//! Durations and sizes of the configuration: always with a unit. A bare number is refused, because
//! it does not say whether it means seconds or milliseconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::machine;

/// `500ms`, `20s`, `5m`, `1h30m`, `2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationSetting(pub Duration);

/// `64KiB`, `1MiB`, `512B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A string that is not a valid duration or size; says what one looks like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: write a number and a unit, like {examples}")]
pub struct Error {
    text: String,
    what: &'static str,
    examples: &'static str,
}

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for DurationSetting {
    type Err = Error;

    /// As pipelines write durations, but that it cannot be negative.
    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error {
            text: text.chars().take(80).collect(),
            what: "duration",
            examples: "`500ms`, `20s`, `5m` or `1h30m`",
        };
        let span: machine::Duration = text.parse().map_err(|_| error())?;
        u64::try_from(span.as_ms()).map(|ms| Self(Duration::from_millis(ms))).map_err(|_| error())
    }
}

impl fmt::Display for DurationSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        machine::Duration::from_ms(i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)).fmt(f)
    }
}

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error {
            text: text.chars().take(80).collect(),
            what: "size",
            examples: "`64KiB` or `1MiB`",
        };
        let (number, unit) =
            text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?);
        let bytes = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(error)?.1;
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(bytes))
            .map(Self)
            .ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = SIZES
            .into_iter()
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

macro_rules! by_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a number with its unit")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }
    };
}

by_text!(DurationSetting);
by_text!(ByteSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_with_their_units() {
        for (text, ms) in
            [("500ms", 500), ("20s", 20_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("0s", 0)]
        {
            let span: DurationSetting = text.parse().unwrap();
            assert_eq!(span.0.as_millis(), ms, "{text}");
            assert_eq!(span.to_string(), text);
        }
        for text in
            ["", "5", "s", "5 s", "1m1h", "5s5s", "-1s", "99999999999999999999s", "1.5s", "5y"]
        {
            assert!(text.parse::<DurationSetting>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn sizes_are_read_and_written_with_their_units() {
        for (text, bytes) in
            [("64KiB", 65_536), ("1MiB", 1 << 20), ("512B", 512), ("2GiB", 2 << 30)]
        {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string(), text);
        }
        for text in ["", "1024", "MiB", "1MB", "1.5MiB", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_a_fix() {
        let error = serde_json::from_str::<DurationSetting>("5").unwrap_err().to_string();
        assert!(
            error.starts_with(
                "`5` is not a valid duration: write a number and a unit, like `500ms`"
            ),
            "{error}"
        );
    }
}
