//! Constraints on a declared field's value beyond its type: `$min`, `$max`, `$pattern`,
//! `$default`. Checked while the value is read, so that the error carries the path of the field.

use std::sync::OnceLock;

use regex::Regex;

use super::value::{Duration, Field, TypeError, Value};

/// Bounds of a field: of a text its length in characters, of a list its length, of a number its
/// value, of a duration its seconds.
#[derive(Debug)]
pub struct Rules {
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Bounds of an integer that no double is.
    pub whole: Whole,
    pub pattern: Option<Pattern>,
}

/// Bounds with every digit.
#[derive(Debug, Clone, Copy)]
pub struct Whole {
    pub min: Option<i64>,
    pub max: Option<i64>,
}

impl Whole {
    pub const NONE: Self = Self { min: None, max: None };
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
        // The compiler has refused patterns that cannot be compiled; one that slipped through
        // accepts nothing.
        self.compiled
            .get_or_init(|| Regex::new(self.text).ok())
            .as_ref()
            .is_some_and(|regex| regex.is_match(text))
    }
}

/// A value that rules can be about.
pub trait Ruled {
    /// What `$min` and `$max` count, and what that is called.
    fn size(&self) -> Option<(f64, &'static str)>;

    fn text(&self) -> Option<&str> {
        None
    }

    /// An integer, which is compared digit by digit.
    fn integer(&self) -> Option<i64> {
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

    fn integer(&self) -> Option<i64> {
        Some(*self)
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

    fn integer(&self) -> Option<i64> {
        self.as_ref().and_then(Ruled::integer)
    }
}

impl Rules {
    pub const NONE: Self = Self { min: None, max: None, whole: Whole::NONE, pattern: None };

    pub const fn min(mut self, min: f64) -> Self {
        self.min = Some(min);
        self
    }

    pub const fn max(mut self, max: f64) -> Self {
        self.max = Some(max);
        self
    }

    /// Of an integer's value.
    pub const fn min_integer(self, min: i64) -> Self {
        self.min(min as f64)
    }

    pub const fn max_integer(self, max: i64) -> Self {
        self.max(max as f64)
    }

    /// Of the length of a string or list.
    pub const fn min_len(self, min: i64) -> Self {
        self.min(min as f64)
    }

    pub const fn max_len(self, max: i64) -> Self {
        self.max(max as f64)
    }

    /// Of an integer that no double is.
    pub const fn whole_min(mut self, min: i64) -> Self {
        self.whole.min = Some(min);
        self
    }

    pub const fn whole_max(mut self, max: i64) -> Self {
        self.whole.max = Some(max);
        self
    }

    /// Rules with this pattern alone, as the first of a chain: it is compiled when it is first
    /// needed.
    pub const fn pattern(text: &'static str) -> Self {
        Self { pattern: Some(Pattern::new(text)), ..Self::NONE }
    }

    fn check(&self, value: &impl Ruled) -> Result<(), String> {
        if let Some(value) = value.integer() {
            let low = self
                .whole
                .min
                .map(|min| (value < min, min.to_string()))
                .or(self.min.map(|min| (is_less(value, min), min.to_string())));
            if let Some((true, min)) = low {
                return Err(format!("its value is {value}, at least {min} is wanted"));
            }
            let high = self
                .whole
                .max
                .map(|max| (value > max, max.to_string()))
                .or(self.max.map(|max| (is_more(value, max), max.to_string())));
            if let Some((true, max)) = high {
                return Err(format!("its value is {value}, at most {max} is wanted"));
            }
        } else if let Some((size, what)) = value.size() {
            if let Some(min) = self.min.filter(|min| size < *min) {
                return Err(format!("its {what} is {size}, at least {min} is wanted"));
            }
            if let Some(max) = self.max.filter(|max| size > *max) {
                return Err(format!("its {what} is {size}, at most {max} is wanted"));
            }
        }
        match (&self.pattern, value.text()) {
            (Some(pattern), Some(text)) if !pattern.accepts(text) => {
                Err(format!("it does not match the pattern {}", pattern.text))
            }
            _ => Ok(()),
        }
    }
}

/// Of 2^63 and above no integer is more, of those below -2^63 none is less; in between the whole
/// part of a double is an integer.
fn is_less(value: i64, bound: f64) -> bool {
    let whole = bound.ceil();
    whole >= -(i64::MIN as f64) || whole > i64::MIN as f64 && value < whole as i64
}

fn is_more(value: i64, bound: f64) -> bool {
    let whole = bound.floor();
    whole < i64::MIN as f64 || whole < -(i64::MIN as f64) && value > whole as i64
}

impl Field<'_> {
    /// With rules.
    pub fn ruled<T: Ruled + Value>(self, rules: &Rules) -> Result<T, TypeError> {
        let value = self.read()?;
        rules.check(&value).map_err(|text| TypeError::new(text).within(self.name))?;
        Ok(value)
    }

    /// With rules and a default, which is not held to them; null is the same as absent.
    pub fn ruled_or<T: Ruled + Value>(
        self,
        rules: &Rules,
        default: fn() -> T,
    ) -> Result<T, TypeError> {
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
        #[json(rules = Rules::pattern("^[A-Z]+$").max(4.0))]
        code: String,
        #[json(rules = NAMES)]
        names: Option<Vec<String>>,
    }

    const COUNT: Rules = Rules::NONE.min(1.0).max(200.0);
    const NAMES: Rules = Rules::NONE.min(1.0);

    fn one() -> i64 {
        1
    }

    fn decode(text: &str) -> Result<Input, String> {
        json::decode(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn integers_are_held_to_their_bounds_digit_by_digit() {
        const EVEN: i64 = 1 << 53;
        let fits = |value: i64, rules: Rules| rules.check(&value).is_ok();
        assert!(
            fits(EVEN, Rules::NONE.max(9_007_199_254_740_992.0))
                && !fits(EVEN + 1, Rules::NONE.max(9_007_199_254_740_992.0))
        );
        assert!(
            fits(EVEN + 1, Rules::NONE.whole_min(EVEN + 1))
                && !fits(EVEN, Rules::NONE.whole_min(EVEN + 1))
        );
        assert!(
            fits(EVEN + 1, Rules::NONE.whole_max(EVEN + 1))
                && !fits(EVEN + 2, Rules::NONE.whole_max(EVEN + 1))
        );
        assert!(
            fits(1, Rules::NONE.max(1.5).min(0.5))
                && !fits(2, Rules::NONE.max(1.5))
                && !fits(0, Rules::NONE.min(0.5))
        );
        assert!(fits(i64::MAX, Rules::NONE.max(1e300)) && !fits(i64::MAX, Rules::NONE.min(1e300)));
        assert!(
            fits(i64::MIN, Rules::NONE.min(-1e300)) && !fits(i64::MIN, Rules::NONE.max(-1e300))
        );
        assert!(
            fits(i64::MIN, Rules::NONE.min(-9_223_372_036_854_775_808.0))
                && !fits(i64::MAX, Rules::NONE.min(9_223_372_036_854_775_808.0))
        );
    }

    #[test]
    fn a_value_outside_the_rules_is_refused_with_the_path_of_its_field() {
        assert_eq!(
            decode(r#"{"code":"AB"}"#),
            Ok(Input { count: 1, code: "AB".into(), names: None })
        );
        assert_eq!(
            decode(r#"{"code":"AB","count":null,"names":null}"#),
            Ok(Input { count: 1, code: "AB".into(), names: None })
        );
        for (text, error) in [
            (r#"{"code":"AB","count":0}"#, "count: its value is 0, at least 1 is wanted"),
            (r#"{"code":"AB","count":201}"#, "count: its value is 201, at most 200 is wanted"),
            (r#"{"code":"ÄÖÜSS"}"#, "code: its length is 5, at most 4 is wanted"),
            (r#"{"code":"ab"}"#, "code: it does not match the pattern ^[A-Z]+$"),
            (
                r#"{"code":"AB","names":[]}"#,
                "names: its number of elements is 0, at least 1 is wanted",
            ),
        ] {
            assert_eq!(decode(text), Err(error.into()), "{text}");
        }
    }
}
