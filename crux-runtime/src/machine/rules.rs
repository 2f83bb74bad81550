//! What a declared field demands of its value beyond its type: `$min`, `$max`, `$pattern`, `$default`. Checked while the value is read,
//! so that the error carries the path of the field.

use std::sync::OnceLock;

use regex::Regex;

use super::value::{Duration, Field, Misfit, Value};

/// Bounds of a field: of a text its length in characters, of a list its length, of a number its value, of a duration its seconds.
#[derive(Debug)]
pub struct Rules {
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub pattern: Option<Pattern>,
}

/// A regular expression, compiled when it is first needed.
#[derive(Debug)]
pub struct Pattern {
    text: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub const fn new(text: &'static str) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    fn accepts(&self, text: &str) -> bool {
        // The compiler has refused patterns that cannot be compiled; one that slipped through accepts nothing.
        self.compiled.get_or_init(|| Regex::new(self.text).ok()).as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// A value that rules can be about.
pub trait Ruled {
    /// What `$min` and `$max` count, and what that is called.
    fn size(&self) -> Option<(f64, &'static str)>;

    fn text(&self) -> Option<&str> {
        None
    }
}

impl Ruled for String {
    fn size(&self) -> Option<(f64, &'static str)> {
        Some((self.chars().count() as f64, "length"))
    }

    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl Ruled for i64 {
    fn size(&self) -> Option<(f64, &'static str)> {
        Some((*self as f64, "value"))
    }
}

impl Ruled for f64 {
    fn size(&self) -> Option<(f64, &'static str)> {
        Some((*self, "value"))
    }
}

impl Ruled for Duration {
    fn size(&self) -> Option<(f64, &'static str)> {
        Some((self.as_ms() as f64 / 1000.0, "length in seconds"))
    }
}

impl<T> Ruled for Vec<T> {
    fn size(&self) -> Option<(f64, &'static str)> {
        Some((self.len() as f64, "number of elements"))
    }
}

impl<T: Ruled> Ruled for Option<T> {
    fn size(&self) -> Option<(f64, &'static str)> {
        self.as_ref().and_then(Ruled::size)
    }

    fn text(&self) -> Option<&str> {
        self.as_ref().and_then(Ruled::text)
    }
}

impl Rules {
    pub const NONE: Self = Self { min: None, max: None, pattern: None };

    pub const fn min(mut self, min: f64) -> Self {
        self.min = Some(min);
        self
    }

    pub const fn max(mut self, max: f64) -> Self {
        self.max = Some(max);
        self
    }

    /// Rules with this pattern alone, as the first of a chain: it is compiled when it is first needed.
    pub const fn pattern(text: &'static str) -> Self {
        Self { min: None, max: None, pattern: Some(Pattern::new(text)) }
    }

    fn check(&self, value: &impl Ruled) -> Result<(), String> {
        if let Some((size, what)) = value.size() {
            if let Some(min) = self.min.filter(|min| size < *min) {
                return Err(format!("its {what} is {size}, at least {min} is wanted"));
            }
            if let Some(max) = self.max.filter(|max| size > *max) {
                return Err(format!("its {what} is {size}, at most {max} is wanted"));
            }
        }
        match (&self.pattern, value.text()) {
            (Some(pattern), Some(text)) if !pattern.accepts(text) => Err(format!("it does not match the pattern {}", pattern.text)),
            _ => Ok(()),
        }
    }
}

impl Field<'_> {
    /// With rules.
    pub fn ruled<T: Ruled + Value>(self, rules: &Rules) -> Result<T, Misfit> {
        let value = self.read()?;
        rules.check(&value).map_err(|text| Misfit::new(text).within(self.name))?;
        Ok(value)
    }

    /// With rules and a default, which is not held to them; null is the same as absent.
    pub fn ruled_or<T: Ruled + Value>(self, rules: &Rules, default: fn() -> T) -> Result<T, Misfit> {
        Ok(self.ruled::<Option<T>>(rules)?.unwrap_or_else(default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{RawValue, json};

    #[derive(Debug, PartialEq, crate::machine::Record)]
    struct Input {
        #[json(rules = COUNT, default = one)]
        count: i64,
        #[json(rules = CODE)]
        code: String,
        #[json(rules = NAMES)]
        names: Option<Vec<String>>,
    }

    static COUNT: Rules = Rules { min: Some(1.0), max: Some(200.0), pattern: None };
    static CODE: Rules = Rules { min: None, max: Some(4.0), pattern: Some(Pattern::new("^[A-Z]+$")) };
    static NAMES: Rules = Rules { min: Some(1.0), max: None, pattern: None };

    fn one() -> i64 {
        1
    }

    fn decode(text: &str) -> Result<Input, String> {
        json::decode(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn a_value_outside_the_rules_is_refused_with_the_path_of_its_field() {
        assert_eq!(decode(r#"{"code":"AB"}"#), Ok(Input { count: 1, code: "AB".into(), names: None }));
        assert_eq!(decode(r#"{"code":"AB","count":null,"names":null}"#), Ok(Input { count: 1, code: "AB".into(), names: None }));
        for (text, error) in [
            (r#"{"code":"AB","count":0}"#, "count: its value is 0, at least 1 is wanted"),
            (r#"{"code":"AB","count":201}"#, "count: its value is 201, at most 200 is wanted"),
            (r#"{"code":"ÄÖÜSS"}"#, "code: its length is 5, at most 4 is wanted"),
            (r#"{"code":"ab"}"#, "code: it does not match the pattern ^[A-Z]+$"),
            (r#"{"code":"AB","names":[]}"#, "names: its number of elements is 0, at least 1 is wanted"),
        ] {
            assert_eq!(decode(text), Err(error.into()), "{text}");
        }
    }
}
