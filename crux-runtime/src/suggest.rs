//! Suggestions for mistyped names, and decoding errors without the names of Rust's types.

use std::borrow::Cow;
use std::fmt::Write;

/// Values are shown up to here.
const SHOWN_LEN_MAX: usize = 80;
/// Longer ones are no names.
const NAME_BYTES_MAX: usize = 256;

/// The end of an error about an unknown name: the name that was probably meant, else the known
/// ones.
pub(crate) fn hint<'a>(said: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    const LISTED_MAX: usize = 12;
    if let Some(meant) = nearest(said, known.clone()) {
        return format!("; did you mean `{meant}`?");
    }
    let listed: Vec<String> =
        known.clone().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    match known.count() {
        0 => "; there are none".to_owned(),
        1 => format!("; there is {}", listed.join("")),
        all @ 2..=LISTED_MAX => {
            format!("; there are {} and {}", listed[..all - 1].join(", "), listed[all - 1])
        }
        all => format!("; there are {} and {} more", listed.join(", "), all - LISTED_MAX),
    }
}

/// A text of others, as much of it as fits into an answer or a line of the log.
pub(crate) fn clip(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(max_bytes);
    Cow::Owned(format!("{}… (cut off: {} bytes)", &text[..end], text.len()))
}

/// Of the known names the one that was probably meant.
pub(crate) fn nearest<'a>(said: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    // Not a mistyped name, and comparing it takes as long as it is.
    if said.len() > NAME_BYTES_MAX {
        return None;
    }
    let limit = (said.chars().count() / 3).max(1);
    let (distance, name) =
        known.map(|name| (strsim::damerau_levenshtein(said, name), name)).min()?;
    (distance <= limit).then(|| name.to_owned())
}

/// `invalid type: string "x", expected u16` → `expected an integer from 0 to 65535, found the
/// string "x"`. The text is serde's, without a path before it; one that is not known stays as it
/// is.
pub(crate) fn plain(text: &str) -> String {
    if let Some((found, expected)) = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|start| text.strip_prefix(start))
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        return format!("expected {}, found {}", type_of(expected), value_of(found));
    }
    if let Some((length, expected)) =
        text.strip_prefix("invalid length ").and_then(|rest| rest.split_once(", expected "))
    {
        return format!("expected {}, found a list of {length}", type_of(expected));
    }
    if let Some(rest) = text.strip_prefix("unknown variant `") {
        return unknown("there is no", rest);
    }
    if let Some(rest) = text.strip_prefix("unknown field `") {
        return unknown("unknown field", rest);
    }
    match text {
        // Of parameters in an address.
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "expected an integer".to_owned()
        }
        "number too large to fit in target type" => "expected a smaller integer".to_owned(),
        _ => text.to_owned(),
    }
}

/// The rest of a text after its first backtick: the unknown name, then those that are known, all in
/// backticks.
fn unknown(what: &str, rest: &str) -> String {
    let mut names = rest.split('`').step_by(2);
    let said = names.next().unwrap_or_default();
    let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
    format!("{what} `{}`{}", shown(said), hint(said, known.iter().copied()))
}

fn type_of(expected: &str) -> String {
    let whole = |to: &dyn std::fmt::Display| format!("an integer from 0 to {to}");
    match expected {
        "i64" => "an integer".to_owned(),
        "u8" => whole(&u8::MAX),
        "u16" => whole(&u16::MAX),
        "u32" => whole(&u32::MAX),
        "u64" | "usize" => whole(&u64::MAX),
        "f64" => "a number".to_owned(),
        "a sequence" | "sequence" => "a list".to_owned(),
        "a map" | "map" => "a record".to_owned(),
        _ if expected.starts_with("struct ") => "a record".to_owned(),
        _ => expected.to_owned(),
    }
}

fn value_of(found: &str) -> String {
    let number = ["integer `", "floating point `"]
        .iter()
        .find_map(|start| found.strip_prefix(start)?.strip_suffix('`'));
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "a record".to_owned(),
        "unit value" | "null" => "null".to_owned(),
        _ => match (number, found.strip_prefix("string ")) {
            (Some(number), _) => format!("the number {}", shown(number)),
            (None, Some(text)) => format!("the string {}", shown(text)),
            (None, None) => format!("the {}", shown(found)),
        },
    }
}

fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN_LEN_MAX).collect();
    if short.len() < text.len() {
        // Writing to a text does not fail.
        let _ = write!(short, "…");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_gets_a_suggestion() {
        let of = |said: &str, known: &[&str]| hint(said, known.iter().copied());
        assert_eq!(of("ordr", &["order", "refund"]), "; did you mean `order`?");
        assert_eq!(of("x", &[]), "; there are none");
        assert_eq!(of("parcel", &["order"]), "; there is `order`");
        assert_eq!(
            of("parcel", &["order", "refund", "trip"]),
            "; there are `order`, `refund` and `trip`"
        );
        let many: Vec<String> = (0..20).map(|n| format!("workflow_{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(
            of("parcel", &many).ends_with("`workflow_11` and 8 more"),
            "{}",
            of("parcel", &many)
        );
    }

    #[test]
    fn an_endless_name_gets_no_suggestion_and_is_cut_off() {
        let long = "ä".repeat(1 << 20);
        assert_eq!(
            hint(&long, [long.as_str()].into_iter()).len(),
            hint("x", [long.as_str()].into_iter()).len()
        );
        assert_eq!(clip("short", 5), "short");
        assert_eq!(clip("äö", 3), "ä… (cut off: 4 bytes)");
    }

    #[test]
    fn a_type_error_has_no_names_of_rust() {
        for (serde, text) in [
            (
                "invalid type: string \"x\", expected i64",
                "expected an integer, found the string \"x\"",
            ),
            (
                "invalid value: integer `99999`, expected u16",
                "expected an integer from 0 to 65535, found the number 99999",
            ),
            (
                "invalid type: floating point `1.5`, expected i64",
                "expected an integer, found the number 1.5",
            ),
            ("invalid type: null, expected f64", "expected a number, found null"),
            ("invalid type: sequence, expected struct Input", "expected a record, found a list"),
            (
                "invalid length 1, expected struct Input with 2 elements",
                "expected a record, found a list of 1",
            ),
            ("invalid type: map, expected a string", "expected a string, found a record"),
            (
                "invalid type: boolean `true`, expected a string",
                "expected a string, found the boolean `true`",
            ),
            (
                "unknown variant `jsn`, expected `text` or `json`",
                "there is no `jsn`; did you mean `json`?",
            ),
            ("unknown field `wiat`, expected `wait`", "unknown field `wiat`; did you mean `wait`?"),
            ("unknown field `x`, there are no fields", "unknown field `x`; there are none"),
            ("invalid digit found in string", "expected an integer"),
            ("missing field `name`", "missing field `name`"),
        ] {
            assert_eq!(plain(serde), text);
        }
        let long = format!("invalid type: string \"{}\", expected i64", "ä".repeat(5000));
        assert!(plain(&long).chars().count() < 150, "{}", plain(&long));
    }
}
