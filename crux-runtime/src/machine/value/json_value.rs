//! The type `json`: opaque to the language, which can only read fields by name.

use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::AsValueRef;
use crate::canonical;
use crate::machine::Failure;
use crate::machine::json;

/// Opaque JSON, kept as it came. Never `null`: that is an absent value.
#[derive(Debug, Clone)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// Any value as JSON.
    pub fn of<T: AsValueRef + ?Sized>(value: &T) -> Result<Self, Failure> {
        json::raw(&value.as_value_ref()).map(|raw| Self(Arc::from(raw)))
    }

    /// A value that stands in the pipeline. It is JSON by construction; were it not, it would be
    /// its text.
    pub fn constant(text: &'static str) -> Self {
        let raw = RawValue::from_string(text.to_owned())
            .or_else(|_| serde_json::value::to_raw_value(text));
        Self(Arc::from(raw.unwrap_or_else(|_| RawValue::NULL.to_owned())))
    }

    /// `None`: it is `null`.
    pub(super) fn keep(raw: Box<RawValue>) -> Option<Self> {
        (raw.get() != "null").then(|| Self(Arc::from(raw)))
    }

    pub fn raw(&self) -> &RawValue {
        &self.0
    }

    /// Whether it is an object with that key, whose value is not `null`.
    pub fn has(&self, key: &str) -> bool {
        // Anything but an object has no entries.
        let entries = canonical::entries(self.0.get()).unwrap_or_default();
        entries
            .iter()
            .rfind(|(name, _)| name == key)
            .is_some_and(|(_, value)| value.get() != "null")
    }

    /// Parsed. The error: it holds what this type cannot, such as a number beyond a double or half
    /// of a surrogate pair.
    pub fn value(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }
}

/// By what it says, not by how it is written.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get() || canonical::hash(&self.0) == canonical::hash(&other.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::keep(Box::deserialize(deserializer)?)
            .ok_or_else(|| D::Error::custom("must not be null"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_kept_as_it_came_and_compared_by_what_it_says() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let text = r#"[{"b":1.50, "a":[1]},"x"]"#;
        let list: Vec<Json> = json::decode(&raw(text)).unwrap();
        assert!(list[0].has("a") && !list[0].has("c"));
        assert!(list[0] == json::decode(&raw(r#"{"a": [1], "b": 1.5}"#)).unwrap());
        assert!(
            json::decode::<Json>(&raw("[123456789012345678901]"))
                != json::decode(&raw("[123456789012345678902]"))
        );
        assert_eq!(json::encode(&list).unwrap().get(), text);
        assert_eq!(serde_json::to_string(&list).unwrap(), text);
        assert_eq!(
            json::decode::<Vec<Json>>(&raw("[1, null]")).unwrap_err(),
            "[1]: must not be null"
        );
        assert_eq!(json::decode::<Option<Json>>(&raw("null")), Ok(None));
    }

    #[test]
    fn what_serde_cannot_hold_is_neither_absent_nor_the_same() {
        let json = |text: &str| {
            json::decode::<Json>(&RawValue::from_string(text.to_owned()).unwrap()).unwrap()
        };
        let with = |extra: &str| json(&format!(r#"{{"a":1,{extra}}}"#));
        let extras =
            [r#""x":1e400"#, r#""x":1e401"#, r#""x":"\ud83d""#, r#""x":"\ud83e""#, r#""\udc00":1"#];
        for (n, extra) in extras.iter().enumerate() {
            assert!(with(extra).has("a") && with(extra).value().is_err(), "{extra}");
            assert!(
                extras
                    .iter()
                    .enumerate()
                    .all(|(m, other)| (with(extra) == with(other)) == (n == m)),
                "{extra}"
            );
        }
        assert!(!json("[1]").has("a") && !json(r#"{"a":null}"#).has("a"));
    }
}
