//! Durations and sizes with their units, as YAML and expressions write them. Whole numbers only;
//! the smallest units are the millisecond and the byte.

/// Why a string is not a valid duration or size, for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a number is missing before `{0}`")]
    NumberMissing(String),
    #[error("the unit is missing after `{0}`")]
    UnitMissing(String),
    #[error("there is no unit `{0}`")]
    UnknownUnit(String),
    #[error("units go from large to small, each once")]
    Order,
    #[error("whole numbers only")]
    Fraction,
    #[error("it is longer than 292 million years")]
    TooLarge,
    #[error("it is empty")]
    Empty,
}

/// Of durations, from large to small, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Of sizes, from large to small, in bytes.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// `500ms`, `10s`, `1h30m`: milliseconds. At most `i64::MAX` of them.
pub fn parse_duration(text: &str) -> Result<u64, Error> {
    parse(text, &DURATION_UNITS)
}

/// `64KiB`, `10MB`: bytes.
pub fn parse_size(text: &str) -> Result<u64, Error> {
    parse(text, &SIZE_UNITS)
}

/// The milliseconds that a text in another notation means, for a hint: `PT5M`, `5 minutes`, `1.5h`,
/// `00:05:00`.
pub fn meant_duration(text: &str) -> Option<u64> {
    const LENGTH_MAX: usize = 40;
    let text = text.trim().to_ascii_lowercase();
    if text.len() > LENGTH_MAX {
        return None;
    }
    let clock: Vec<&str> = text.split(':').collect();
    let ms = match (text.strip_prefix('p'), clock.as_slice()) {
        (Some(iso), _) => meant_iso(iso)?,
        (None, [hours, minutes, seconds]) => {
            let part = |digits: &str| {
                digits.parse::<u32>().ok().filter(|_| digits.len() <= 2).map(f64::from)
            };
            (part(hours)? * 3600.0 + part(minutes)? * 60.0 + part(seconds)?) * 1000.0
        }
        (None, _) => meant_words(&text)?,
    };
    // Floats saturate in this conversion.
    Some(ms.round() as u64).filter(|ms| *ms > 0 && i64::try_from(*ms).is_ok())
}

/// Behind the `p`: `1dt2h3m4.5s`.
fn meant_iso(text: &str) -> Option<f64> {
    let (date, time) = text.split_once('t').unwrap_or((text, ""));
    let mut total = 0.0;
    for (part, units) in [
        (date, [("w", 604_800_000.0), ("d", 86_400_000.0), ("", 0.0)]),
        (time, [("h", 3_600_000.0), ("m", 60_000.0), ("s", 1000.0)]),
    ] {
        let mut rest = part;
        while !rest.is_empty() {
            let (number, after) = leading_number(rest)?;
            let (_, ms) =
                units.iter().find(|(unit, _)| !unit.is_empty() && after.starts_with(unit))?;
            total += number * ms;
            rest = after.get(1..)?;
        }
    }
    Some(total)
}

/// `5 minutes`, `1h 30min`, `1.5h`.
fn meant_words(text: &str) -> Option<f64> {
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let after = after.trim_start();
        let len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(len);
        total += number
            * match unit {
                "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => 1.0,
                "s" | "sec" | "secs" | "second" | "seconds" => 1000.0,
                "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
                "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000.0,
                "d" | "day" | "days" => 86_400_000.0,
                "w" | "week" | "weeks" => 604_800_000.0,
                _ => return None,
            };
        rest = after.trim_start_matches([' ', ',', '_']);
    }
    Some(total)
}

fn leading_number(text: &str) -> Option<(f64, &str)> {
    let len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, after) = text.split_at(len);
    Some((number.parse().ok()?, after))
}

/// The text of a duration in milliseconds: `1h30m`; `0s` for zero.
pub fn format_duration(mut ms: u64) -> String {
    let mut text = String::new();
    for (unit, unit_ms) in DURATION_UNITS {
        let count = ms / unit_ms;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            ms %= unit_ms;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Result<u64, Error> {
    let mut total: u64 = 0;
    let mut rest = text;
    let mut allowed = units;
    if rest.is_empty() {
        return Err(Error::Empty);
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return Err(Error::NumberMissing(rest.to_owned()));
        }
        let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        if unit.is_empty() {
            return Err(if after.starts_with(['.', ',']) {
                Error::Fraction
            } else {
                Error::UnitMissing(number.to_owned())
            });
        }
        let Some(index) = allowed.iter().position(|(name, _)| *name == unit) else {
            let known = units.iter().any(|(name, _)| *name == unit);
            return Err(if known { Error::Order } else { Error::UnknownUnit(unit.to_owned()) });
        };
        let value =
            number.parse::<u64>().ok().and_then(|number| number.checked_mul(allowed[index].1));
        total = value
            .and_then(|value| total.checked_add(value))
            .filter(|total| i64::try_from(*total).is_ok())
            .ok_or(Error::TooLarge)?;
        allowed = &allowed[index + 1..];
        rest = after;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2d", 172_800_000),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
            assert_eq!(format_duration(ms), text);
        }
    }

    #[test]
    fn a_wrong_duration_says_why() {
        for (text, error) in [
            ("", Error::Empty),
            ("10", Error::UnitMissing("10".into())),
            ("s", Error::NumberMissing("s".into())),
            ("1.5s", Error::Fraction),
            ("30m1h", Error::Order),
            ("1s1s", Error::Order),
            ("3 days", Error::UnitMissing("3".into())),
            ("3w", Error::UnknownUnit("w".into())),
            ("-1s", Error::NumberMissing("-1s".into())),
            ("99999999999999999999s", Error::TooLarge),
            ("9223372036854775807s", Error::TooLarge),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_other_notations_mean_is_known() {
        for (text, meant) in [
            ("PT5M", Some("5m")),
            ("P1DT2H", Some("1d2h")),
            ("pt0.5s", Some("500ms")),
            ("5 minutes", Some("5m")),
            ("1h 30min", Some("1h30m")),
            ("1.5h", Some("1h30m")),
            ("5M", Some("5m")),
            ("2w", Some("14d")),
            ("00:05:00", Some("5m")),
            ("30", None),
            ("P", None),
            ("PT", None),
            ("soon", None),
            ("0 s", None),
            ("1e9 s", None),
            ("..s", None),
        ] {
            assert_eq!(meant_duration(text).map(format_duration).as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("10MB"), Ok(10_000_000));
        assert_eq!(parse_size("1MiB512KiB"), Ok(1_572_864));
        assert_eq!(parse_size("10KIB"), Err(Error::UnknownUnit("KIB".into())));
    }
}
