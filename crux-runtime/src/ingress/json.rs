//! JSON of requests and messages, read as [`outside`] says; what is refused is a problem.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::problem::{Kind, Problem};
use crate::outside;
use crate::suggest::plain;

/// A JSON value as it was written.
pub(crate) fn raw(bytes: &[u8]) -> Result<Box<RawValue>, Problem> {
    check(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| Problem::new(Kind::NotJson, error.to_string()))
}

/// A value of a type that a route expects.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    check(bytes)?;
    // To keep track of the place costs as much as the reading: only what is wrong is read once more
    // for it.
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

/// As [`outside::check`], as a problem.
fn check(bytes: &[u8]) -> Result<(), Problem> {
    outside::check(bytes).map_err(|refused| {
        let kind = if refused.is_too_deep { Kind::TooDeep } else { Kind::NotJson };
        let problem = Problem::new(kind, refused.to_string());
        if refused.path.is_empty() { problem } else { problem.at(refused.path) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        name: String,
        #[serde(default)]
        items: Vec<u32>,
    }

    #[test]
    fn a_hundred_thousand_levels_are_refused_and_brackets_in_texts_are_not() {
        assert_eq!(raw("[".repeat(100_000).as_bytes()).unwrap_err().kind, Kind::TooDeep);
        assert_eq!(
            raw(format!("{}1{}", "{\"a\":".repeat(101), "}".repeat(101)).as_bytes())
                .unwrap_err()
                .kind,
            Kind::TooDeep
        );
        assert!(raw(format!("{}1{}", "[".repeat(100), "]".repeat(100)).as_bytes()).is_ok());
        assert!(raw(format!("\"\\\"{}\"", "[".repeat(200)).as_bytes()).is_ok());
    }

    #[test]
    fn invalid_json_is_distinguished_from_a_wrong_type() {
        assert_eq!(raw(b"").unwrap_err().kind, Kind::NotJson);
        assert_eq!(raw(b"{a}").unwrap_err().kind, Kind::NotJson);
        assert_eq!(raw(b"{\"a\":\"\xff\"}").unwrap_err().kind, Kind::NotJson);
        assert_eq!(parse::<Example>(b"{\"name\":\"x\"").unwrap_err().kind, Kind::NotJson);
        assert_eq!(parse::<Example>(b"{\"name\":\"x\"} x").unwrap_err().kind, Kind::NotJson);
        let missing = parse::<Example>(b"{}").unwrap_err();
        assert_eq!((missing.kind, missing.field.as_deref()), (Kind::InvalidRequest, Some("name")));
        let wrong = parse::<Example>(b"{\"name\":\"x\",\"items\":[1,\"b\"]}").unwrap_err();
        assert_eq!(wrong.field.as_deref(), Some("items[1]"));
        let read = parse::<Example>(b"{\"name\":\"x\",\"items\":[1]}").unwrap();
        assert_eq!((read.name.as_str(), read.items.as_slice()), ("x", [1_u32].as_slice()));
    }
}
