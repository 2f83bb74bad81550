//! How values are read from JSON. A record's object is split into the JSON of its fields, and each
//! is read by its type: so an error knows the path of the field by itself.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor,
};
use serde_json::value::RawValue;

use super::Value;
use crate::suggest::plain;

/// JSON that is not of the type. Its text is for people, with the path of the field before it:
/// `items[2].price: expected a number, found the string "high"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeError(Box<Details>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Details {
    path: String,
    text: String,
}

impl TypeError {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Box::new(Details { path: String::new(), text: text.into() }))
    }

    /// A string that is not what was expected.
    pub(super) fn unlike(text: &str, expected: &str) -> Self {
        Self::new(plain(&format!("invalid value: string {text:?}, expected {expected}")))
    }

    /// Without what it quotes of the value.
    fn hidden(mut self) -> Self {
        "it does not fit; it is secret and not shown".clone_into(&mut self.0.text);
        self
    }

    /// It is in that field.
    pub fn within(mut self, field: &str) -> Self {
        let path = &mut self.0.path;
        let between = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        path.insert_str(0, between);
        path.insert_str(0, field);
        self
    }

    /// It is in that element.
    pub fn at(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { path, text } = &*self.0;
        if path.is_empty() { f.write_str(text) } else { write!(f, "{path}: {text}") }
    }
}

impl From<serde_json::Error> for TypeError {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        // "missing field `x` at line 1 column 9": the place in one line of JSON says nothing.
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head);
        Self::new(plain(text))
    }
}

/// A value without parts.
pub(super) fn leaf<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Result<T, TypeError> {
    Ok(serde_json::from_str(json.get())?)
}

/// The elements of a list.
pub(super) fn elements(json: &RawValue) -> Result<Vec<&RawValue>, TypeError> {
    leaf(json)
}

/// The entries of a map, in their order; of those with the same key the last one counts.
pub(super) fn entries(json: &RawValue) -> Result<Vec<(String, &RawValue)>, TypeError> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    Ok(serde_json::Deserializer::from_str(json.get()).deserialize_map(Entries)?)
}

/// The word of an enum that `json` is, by its place in `words`.
pub fn word(json: &RawValue, words: &'static [&'static str]) -> Result<usize, TypeError> {
    struct Word(&'static [&'static str]);

    impl Visitor<'_> for Word {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<usize, E> {
            self.0
                .iter()
                .position(|known| *known == word)
                .ok_or_else(|| E::unknown_variant(word, self.0))
        }
    }

    Ok(serde_json::Deserializer::from_str(json.get()).deserialize_str(Word(words))?)
}

/// A field of a record: its JSON, where it is there.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    pub(in crate::machine) name: &'static str,
    pub(in crate::machine) json: Option<&'a RawValue>,
}

impl Field<'_> {
    pub fn read<T: Value>(self) -> Result<T, TypeError> {
        match self.json {
            Some(json) => T::read(json).map_err(|error| error.within(self.name)),
            None => T::absent().ok_or_else(|| self.missing()),
        }
    }

    /// With a default; null is the same as absent.
    pub fn read_or<T: Value>(self, default: fn() -> T) -> Result<T, TypeError> {
        Ok(self.read::<Option<T>>()?.unwrap_or_else(default))
    }

    /// What was read of a secret: an error does not say what the value is.
    pub fn hidden<T>(self, read: Result<T, TypeError>) -> Result<T, TypeError> {
        if self.json.is_some() { read.map_err(TypeError::hidden) } else { read }
    }

    fn missing(self) -> TypeError {
        TypeError::new(format!("missing field `{}`", self.name))
    }
}

/// The fields of a record, which is an object and nothing else: serde would read one from a list
/// too, by the order of its fields, a value that no pipeline means and whose fields would change
/// places with the next edit. Fields of other names are passed by.
pub fn fields<'a, const N: usize>(
    json: &'a RawValue,
    names: [&'static str; N],
) -> Result<[Field<'a>; N], TypeError> {
    let mut fields = names.map(|name| Field { name, json: None });
    split(json, &mut fields)?;
    Ok(fields)
}

fn split<'a>(json: &'a RawValue, fields: &mut [Field<'a>]) -> Result<(), TypeError> {
    Ok(serde_json::Deserializer::from_str(json.get()).deserialize_map(Split(fields))?)
}

struct Split<'f, 'de>(&'f mut [Field<'de>]);

impl<'de> Visitor<'de> for Split<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(known) = map.next_key_seed(Name(self.0))? {
            let Some(field) = known.and_then(|at| self.0.get_mut(at)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if field.json.is_some() {
                return Err(A::Error::duplicate_field(field.name));
            }
            field.json = Some(map.next_value()?);
        }
        Ok(())
    }
}

/// A key: the place of the field of that name.
struct Name<'f, 'de>(&'f [Field<'de>]);

impl<'de> DeserializeSeed<'de> for Name<'_, '_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name<'_, '_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|field| field.name == name))
    }
}

/// For serde's `Deserialize` of records and enums, from any format that describes itself.
pub fn deserialize<'de, T: Value, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    let json = serde_json::value::to_raw_value(&value).map_err(D::Error::custom)?;
    T::read(&json).map_err(D::Error::custom)
}
