//! Durations, with their text.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

/// A span of time in milliseconds; may be negative. Its text and its JSON are `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration {
    ms: i64,
}

/// From large to small, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Duration {
    pub const fn from_ms(ms: i64) -> Self {
        Self { ms }
    }

    pub const fn as_ms(self) -> i64 {
        self.ms
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms == 0 {
            return f.write_str("0s");
        }
        if self.ms < 0 {
            f.write_str("-")?;
        }
        let mut rest = self.ms.unsigned_abs();
        for (unit, unit_ms) in UNITS {
            let count = rest / unit_ms;
            rest %= unit_ms;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

/// A string is not a valid duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: write it with units, as in 500ms, 10s or 1h30m")]
pub struct NotADuration;

impl FromStr for Duration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let mut units = UNITS.iter();
        let mut total: i64 = 0;
        if rest.is_empty() {
            return Err(NotADuration);
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(letters);
            // Each unit once, from large to small: the iterator is never wound back.
            let (_, unit_ms) = units.find(|(name, _)| *name == unit).ok_or(NotADuration)?;
            let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit_ms));
            let ms = ms.and_then(|ms| i64::try_from(ms).ok()).ok_or(NotADuration)?;
            total = total.checked_add(ms).ok_or(NotADuration)?;
            rest = after;
        }
        Ok(Self { ms: sign * total })
    }
}

impl From<Duration> for std::time::Duration {
    /// Nothing for a negative one.
    fn from(duration: Duration) -> Self {
        Self::from_millis(u64::try_from(duration.ms).unwrap_or(0))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_with_their_units() {
        for (text, ms) in [
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("0s", 0),
            ("-1m30s", -90_000),
            ("1d1ms", 86_400_001),
        ] {
            assert_eq!(text.parse(), Ok(Duration::from_ms(ms)), "{text}");
            assert_eq!(Duration::from_ms(ms).to_string(), text);
        }
        for wrong in
            ["", "-", "10", "s", "1.5s", "30m1h", "1s1s", "3w", "9223372036854775807s", "1s ", "٣s"]
        {
            assert_eq!(wrong.parse::<Duration>(), Err(NotADuration), "{wrong}");
        }
        assert_eq!(Duration::from_ms(i64::MIN).to_string(), "-106751991167d7h12m55s808ms");
    }
}
