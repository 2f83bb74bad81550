//! `$min` and `$max`: a number with every digit that was written.

use std::cmp::Ordering;
use std::fmt;

/// A bound of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    Whole(i64),
    Number(f64),
}

impl Bound {
    /// The nearest double.
    pub fn number(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Number(value) => value,
        }
    }

    /// The integer, if no double is that number.
    pub fn beyond_doubles(self) -> Option<i64> {
        match self {
            Self::Whole(value) if i128::from(value) != self.number() as i128 => Some(value),
            Self::Whole(_) | Self::Number(_) => None,
        }
    }
}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => one.partial_cmp(other),
            (one, other) => one.number().partial_cmp(&other.number()),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
        }
    }
}
