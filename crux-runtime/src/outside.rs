//! JSON from outside, in whichever way it comes: a request's body, a message of the gateway or of a
//! broker, a service's response, a command line. One reader defines what is accepted, so that every
//! later reader can read it: text that is UTF-8, nested no deeper than [`MAX_DEPTH`], with no half
//! characters (`"\ud83d"` alone) and no number that a double cannot hold. The value itself is kept
//! as it was written; its meaning is checked elsewhere.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// How deep lists and records may nest. Below what JSON readers on the way take, with room for what
/// is put around the value.
pub(crate) const MAX_DEPTH: usize = 100;
/// By these names serde_json knows its own types, and would not see a record that has them.
const RESERVED: [&str; 2] = ["$serde_json::private::RawValue", "$serde_json::private::Number"];
/// Paths are shown to people: longer ones are cut.
const MAX_KEY: usize = 80;

/// JSON that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) is_too_deep: bool,
    /// Where in the value; empty: at its top, or it is no JSON at all.
    pub(crate) path: String,
    pub(crate) reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

/// Whether it is taken.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Refused> {
    let refused =
        |reason: String, path: Vec<Part>| Refused { is_too_deep: false, path: shown(path), reason };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(refused(
            "nothing is there where a JSON value should be".to_owned(),
            Vec::new(),
        ));
    }
    let mut walk = Walk::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let result = Value { walk: &mut walk, depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    let Err(error) = result else { return Ok(()) };
    if walk.is_too_deep {
        let reason = format!("lists and records may nest {MAX_DEPTH} deep");
        // Where it is deepest nobody needs to know.
        return Err(Refused { is_too_deep: true, path: String::new(), reason });
    }
    let text = error.to_string();
    let (head, _) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
    if head.contains("surrogate") || head.contains("hex escape") && !head.starts_with("invalid") {
        return Err(refused(
            "half a character: an escape such as \\ud83d stands alone, as in a text that was cut in a wrong place".to_owned(),
            walk.path,
        ));
    }
    if head == "number out of range" {
        return Err(refused(
            "a number that no double can hold: send it as a string".to_owned(),
            walk.path,
        ));
    }
    if error.is_data() {
        return Err(refused(head.to_owned(), walk.path));
    }
    Err(refused(text, Vec::new()))
}

#[derive(Default)]
struct Walk {
    /// Of the place of the error, from the inside to the outside.
    path: Vec<Part>,
    is_too_deep: bool,
}

enum Part {
    Key(String),
    Index(usize),
}

fn shown(path: Vec<Part>) -> String {
    let mut shown = String::new();
    for part in path.into_iter().rev() {
        // A text takes all that is written to it.
        let _ = match part {
            Part::Index(index) => write!(shown, "[{index}]"),
            Part::Key(key) => write!(shown, "{}{key}", if shown.is_empty() { "" } else { "." }),
        };
    }
    shown
}

/// Looks at a value and everything in it, and keeps nothing.
struct Value<'w> {
    walk: &'w mut Walk,
    /// Of what is around it.
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl Value<'_> {
    fn go_in<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.walk.is_too_deep = true;
            return Err(E::custom("too deep"));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.go_in()?;
        for index in 0.. {
            match list.next_element_seed(Value { walk: &mut *self.walk, depth: self.depth }) {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => {
                    self.walk.path.push(Part::Index(index));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut record: A) -> Result<(), A::Error> {
        self.go_in()?;
        while let Some(key) = record.next_key_seed(Key)? {
            let value = record.next_value_seed(Value { walk: &mut *self.walk, depth: self.depth });
            if let Err(error) = value {
                self.walk.path.push(Part::Key(key.chars().take(MAX_KEY).collect()));
                return Err(error);
            }
            if RESERVED.contains(&&*key) {
                return Err(A::Error::custom(format!("the name `{key}` is reserved")));
            }
        }
        Ok(())
    }
}

/// Without a copy, as long as nothing in it is escaped.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        check(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_others_could_not_read_is_refused_with_its_place() {
        let half = "half a character: an escape such as \\ud83d stands alone, as in a text that was cut in a wrong place";
        assert_eq!(refused(r#"{"a":[1,{"note":"great \ud83d"}]}"#), format!("a[1].note: {half}"));
        assert_eq!(refused(r#"{"a":["\udc00 x"]}"#), format!("a[0]: {half}"));
        assert_eq!(refused(r#"{"a":{"\ud83dx":1}}"#), format!("a: {half}"));
        for number in ["1e400", "-1e999", &"9".repeat(400)] {
            let text = refused(&format!(r#"{{"weight":{number}}}"#));
            assert_eq!(text, "weight: a number that no double can hold: send it as a string");
        }
        assert_eq!(
            refused(r#"{"x":{"$serde_json::private::RawValue":"["}}"#),
            "x: the name `$serde_json::private::RawValue` is reserved"
        );
    }

    #[test]
    fn depth_is_counted_in_values_and_not_in_texts() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(check(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err().is_too_deep);
        assert!(check("[".repeat(100_000).as_bytes()).unwrap_err().is_too_deep);
        assert!(check(format!("\"\\\"{}\"", "[".repeat(200)).as_bytes()).is_ok());
    }

    #[test]
    fn invalid_json_is_reported_with_its_place_in_the_text() {
        assert_eq!(refused("{\"a\":1"), "EOF while parsing an object at line 1 column 6");
        assert_eq!(refused("{} x"), "trailing characters at line 1 column 4");
        assert_eq!(refused(" \n"), "nothing is there where a JSON value should be");
        assert!(check(b"\"\xff\"").unwrap_err().reason.starts_with("invalid unicode code point"));
    }

    #[test]
    fn everything_else_is_taken() {
        for text in [
            "null",
            r#"{"a":[true,1.50,-0.0,1e-400,18446744073709551616,123456789012345678901],"":"\ud83d\ude00 \u0000"}"#,
            r#"{"a":1,"a":2}"#,
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }
}
