//! Secrets, which no client is shown: fields that the pipeline declares secret (`$secret`), and
//! values that the build has found to be derived from them. The definition's document names their
//! places; the journal keeps the values, which replay needs, and whatever shows them masks them
//! here.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::definition::shape::static_path;
use crate::journal::{Entry, Row};

/// Replaces a secret.
pub(crate) const MASK: &str = "***";
/// For all elements of a list, or all values of a map.
const ALL: &str = "*";

/// Whether the name of a configuration value speaks of a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "password", "token", "key", "credential"].iter().any(|word| name.contains(word))
}

/// The secret places of one workflow.
#[derive(Debug, Default)]
pub struct Secrets {
    input: Places,
    output: Places,
    /// By step, without element and round numbers: of its result, and of what its task takes.
    results: HashMap<String, Places>,
    inputs: HashMap<String, Places>,
}

/// As the definition's document says it: paths like `card.number` and `lines.*.token`; the empty
/// one is the whole value.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Written {
    input: Vec<String>,
    output: Vec<String>,
    results: HashMap<String, Vec<String>>,
    inputs: HashMap<String, Vec<String>>,
}

impl Secrets {
    pub(crate) fn new(written: &Written) -> Self {
        let steps = |steps: &HashMap<String, Vec<String>>| {
            steps.iter().map(|(path, places)| (path.clone(), Places::new(places))).collect()
        };
        Self {
            input: Places::new(&written.input),
            output: Places::new(&written.output),
            results: steps(&written.results),
            inputs: steps(&written.inputs),
        }
    }

    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// The instance's input as it may be shown.
    pub(crate) fn input<'a>(&self, input: &'a RawValue) -> Cow<'a, RawValue> {
        self.input.masked(input)
    }

    pub(crate) fn output<'a>(&self, output: &'a RawValue) -> Cow<'a, RawValue> {
        self.output.masked(output)
    }

    pub(crate) fn result<'a>(&self, path: &str, result: &'a RawValue) -> Cow<'a, RawValue> {
        of(&self.results, path).map_or(Cow::Borrowed(result), |places| places.masked(result))
    }

    /// Masks a row of the journal before it is shown. Configuration values are secret by their
    /// names.
    pub(crate) fn hide(&self, row: &mut Row) {
        row.events.iter_mut().chain(&mut row.out).for_each(|entry| self.hide_in(entry));
    }

    fn hide_in(&self, entry: &mut Entry) {
        if let Some(started) = &mut entry.started {
            self.input.mask(&mut started.input);
            for (_, value) in started.config.iter_mut().filter(|(name, _)| is_secret(name)) {
                MASK.clone_into(value);
            }
        }
        if let Some(output) = &mut entry.output {
            self.output.mask(output);
        }
        let Some(path) = entry.path.as_deref() else { return };
        if let Some(places) = of(&self.results, path) {
            entry.result.iter_mut().chain(&mut entry.data).for_each(|value| places.mask(value));
        }
        if let (Some(places), Some(input)) = (of(&self.inputs, path), &mut entry.input) {
            places.mask(input);
        }
    }
}

fn of<'a>(steps: &'a HashMap<String, Places>, path: &str) -> Option<&'a Places> {
    if steps.is_empty() { None } else { steps.get(&static_path(path)) }
}

/// Secret places in a value.
#[derive(Debug, Default)]
struct Places {
    whole: bool,
    inside: BTreeMap<String, Places>,
}

impl Places {
    fn new(paths: &[String]) -> Self {
        let mut places = Self::default();
        for path in paths {
            let mut at = &mut places;
            for part in path.split('.').filter(|part| !part.is_empty()) {
                at = at.inside.entry(part.to_owned()).or_default();
            }
            at.whole = true;
        }
        places
    }

    fn is_empty(&self) -> bool {
        !self.whole && self.inside.is_empty()
    }

    fn mask(&self, value: &mut Box<RawValue>) {
        if let Cow::Owned(masked) = self.masked(value) {
            *value = masked;
        }
    }

    fn masked<'a>(&self, value: &'a RawValue) -> Cow<'a, RawValue> {
        if self.is_empty() {
            return Cow::Borrowed(value);
        }
        let mut text = String::with_capacity(value.get().len());
        let written =
            self.write(value, &mut text).ok().and_then(|()| RawValue::from_string(text).ok());
        // A value that cannot be parsed is not shown at all.
        let whole =
            || serde_json::value::to_raw_value(MASK).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Cow::Owned(written.unwrap_or_else(whole))
    }

    /// Only masked values are replaced: numbers and strings beside them stay unchanged.
    fn write(&self, value: &RawValue, out: &mut String) -> Result<(), serde_json::Error> {
        let json = value.get();
        if self.whole {
            if json == "null" {
                out.push_str(json);
            } else {
                out.push_str(&serde_json::to_string(MASK)?);
            }
            return Ok(());
        }
        match json.as_bytes().first() {
            Some(b'{') => {
                let Entries(entries) = serde_json::from_str(json)?;
                out.push('{');
                for (n, (key, value)) in entries.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    out.push_str(&serde_json::to_string(key)?);
                    out.push(':');
                    self.write_part(key, value, out)?;
                }
                out.push('}');
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(json)?;
                out.push('[');
                for (n, element) in elements.into_iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    self.write_part(ALL, element, out)?;
                }
                out.push(']');
            }
            _ => out.push_str(json),
        }
        Ok(())
    }

    fn write_part(
        &self,
        key: &str,
        value: &RawValue,
        out: &mut String,
    ) -> Result<(), serde_json::Error> {
        match self.inside.get(key).or_else(|| self.inside.get(ALL)) {
            Some(places) => places.write(value, out),
            None => {
                out.push_str(value.get());
                Ok(())
            }
        }
    }
}

/// The entries of an object in their order; one that is there twice is there twice.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        from.deserialize_map(All)
    }
}

/// An input as hooks and the payload of tasks carry it.
pub(crate) fn shown_input(secrets: Option<&Secrets>, input: &Arc<RawValue>) -> Arc<RawValue> {
    match secrets.map(|secrets| secrets.input(input)) {
        Some(Cow::Owned(masked)) => Arc::from(masked),
        _ => input.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(places: &[&str], json: &str) -> String {
        let places: Vec<String> = places.iter().map(|place| (*place).to_owned()).collect();
        let json = RawValue::from_string(json.to_owned()).unwrap();
        Places::new(&places).masked(&json).get().to_owned()
    }

    #[test]
    fn what_is_secret_is_masked_and_the_rest_stays_to_the_letter() {
        for (places, json, shown) in [
            (
                &["password"][..],
                r#"{"user":"ada","password":"x"}"#,
                r#"{"user":"ada","password":"***"}"#,
            ),
            (
                &["password"],
                r#"{ "password" : {"a":[1]}, "n": 1.10, "big": 18446744073709551617 }"#,
                r#"{"password":"***","n":1.10,"big":18446744073709551617}"#,
            ),
            (
                &["card.number"],
                r#"{"card":{"number":4,"name":"\ud83d\ude00"}}"#,
                r#"{"card":{"number":"***","name":"\ud83d\ude00"}}"#,
            ),
            (
                &["lines.*.token"],
                r#"{"lines":[{"token":"a","n":1},{"n":2}]}"#,
                r#"{"lines":[{"token":"***","n":1},{"n":2}]}"#,
            ),
            (&["*"], r#"{"a":1,"b":null}"#, r#"{"a":"***","b":null}"#),
            (&[""], r#"["a"]"#, r#""***""#),
            (
                &["password"],
                r#"{"password":1,"password":2}"#,
                r#"{"password":"***","password":"***"}"#,
            ),
            (&["password"], r#"{"user":"ada"}"#, r#"{"user":"ada"}"#),
            (&["password"], "null", "null"),
        ] {
            assert_eq!(masked(places, json), shown, "{json}");
        }
    }

    #[test]
    fn what_cannot_be_taken_apart_is_not_shown() {
        // A key that is half a character.
        assert_eq!(masked(&["password"], r#"{"\ud800":1,"password":"x"}"#), r#""***""#);
    }
}
