//! JSON from outside, before anything is made of it: its size, its nesting, its syntax. A value is kept as it was written; what it means
//! is for whoever takes it.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::problem::{Kind, Problem};
use crate::wording::plain;

/// How deep lists and records may nest. Below what JSON readers on the way take, with room for what is put around the value.
pub(crate) const MAX_DEPTH: usize = 100;

/// A JSON value as it was written.
pub(crate) fn raw(bytes: &[u8]) -> Result<Box<RawValue>, Problem> {
    check_depth(bytes)?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(Kind::NotJson, "the body is empty: send a JSON value"));
    }
    serde_json::from_slice(bytes).map_err(|error| Problem::new(Kind::NotJson, error.to_string()))
}

/// A value of a type that a route expects.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    check_depth(bytes)?;
    // To keep track of the place costs as much as the reading: only what is wrong is read once more for it.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return Problem::new(Kind::NotJson, inner.to_string());
        }
        let text = inner.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head);
        let text = plain(text);
        let text = if path == "." { text } else { format!("{path}: {text}") };
        Problem { kind: Kind::InvalidRequest, ..Problem::invalid(&text, "") }
    })?;
    deserializer.end().map_err(|error| Problem::new(Kind::NotJson, error.to_string()))?;
    Ok(value)
}

/// Refuses deep nesting before a reader that works by recursion sees it.
fn check_depth(bytes: &[u8]) -> Result<(), Problem> {
    let mut depth = 0_usize;
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                // Brackets in texts do not count.
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => {
                            bytes.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Problem::new(Kind::TooDeep, format!("lists and records may nest {MAX_DEPTH} deep")));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Said {
        name: String,
        #[serde(default)]
        items: Vec<u32>,
    }

    #[test]
    fn a_hundred_thousand_levels_are_refused_and_brackets_in_texts_are_not() {
        assert_eq!(raw("[".repeat(100_000).as_bytes()).unwrap_err().kind, Kind::TooDeep);
        assert_eq!(raw(format!("{}1{}", "{\"a\":".repeat(101), "}".repeat(101)).as_bytes()).unwrap_err().kind, Kind::TooDeep);
        assert!(raw(format!("{}1{}", "[".repeat(100), "]".repeat(100)).as_bytes()).is_ok());
        assert!(raw(format!("\"\\\"{}\"", "[".repeat(200)).as_bytes()).is_ok());
    }

    #[test]
    fn what_is_not_json_is_told_from_what_is_not_of_the_type() {
        assert_eq!(raw(b"").unwrap_err().kind, Kind::NotJson);
        assert_eq!(raw(b"{a}").unwrap_err().kind, Kind::NotJson);
        assert_eq!(raw(b"{\"a\":\"\xff\"}").unwrap_err().kind, Kind::NotJson);
        assert_eq!(parse::<Said>(b"{\"name\":\"x\"").unwrap_err().kind, Kind::NotJson);
        assert_eq!(parse::<Said>(b"{\"name\":\"x\"} x").unwrap_err().kind, Kind::NotJson);
        let missing = parse::<Said>(b"{}").unwrap_err();
        assert_eq!((missing.kind, missing.field.as_deref()), (Kind::InvalidRequest, Some("name")));
        let wrong = parse::<Said>(b"{\"name\":\"x\",\"items\":[1,\"b\"]}").unwrap_err();
        assert_eq!(wrong.field.as_deref(), Some("items[1]"));
        let said = parse::<Said>(b"{\"name\":\"x\",\"items\":[1]}").unwrap();
        assert_eq!((said.name.as_str(), said.items.as_slice()), ("x", [1_u32].as_slice()));
    }
}
