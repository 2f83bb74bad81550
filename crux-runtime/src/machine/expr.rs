//! The functions and operators of the expression language that Rust has no operator for, called by
//! generated code. None panics: what cannot be computed is the failure `ExpressionError`, and
//! conversions of texts give an `Option`.

use std::fmt::{self, Display};

use jiff::SignedDuration;

use super::Failure;
use super::value::{Duration, IndexMap, Timestamp};

/// Two operands of which one operator makes a value, or cannot.
macro_rules! operator {
    ($function:ident, $trait:ident, $symbol:literal, $doc:literal, { $(($left:ty, $right:ty) -> $out:ty = $compute:expr;)* }) => {
        #[doc = $doc]
        pub trait $trait<R> {
            type Out;
            fn compute(self, right: R) -> Option<Self::Out>;
        }

        $(impl $trait<$right> for $left {
            type Out = $out;
            fn compute(self, right: $right) -> Option<$out> {
                let compute: fn($left, $right) -> Option<$out> = $compute;
                compute(self, right)
            }
        })*

        #[doc = $doc]
        pub fn $function<L: $trait<R> + Display + Copy, R: Display + Copy>(left: L, right: R) -> Result<L::Out, Failure> {
            left.compute(right).ok_or_else(|| impossible(&format!(concat!("{} ", $symbol, " {}"), left, right)))
        }
    };
}

fn impossible(what: &str) -> Failure {
    Failure::expression(format!(
        "{what} cannot be computed: it is too large, or a division by zero"
    ))
}

/// JSON has no infinity and no NaN, so that the language has none either.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn span(duration: Duration) -> SignedDuration {
    SignedDuration::from_millis(duration.as_ms())
}

operator!(add, Add, "+", "`left + right`.", {
    (i64, i64) -> i64 = i64::checked_add;
    (f64, f64) -> f64 = |left, right| finite(left + right);
    (Duration, Duration) -> Duration = |left, right| left.as_ms().checked_add(right.as_ms()).map(Duration::from_ms);
    (Timestamp, Duration) -> Timestamp = |left, right| left.checked_add(span(right)).ok();
});

operator!(subtract, Subtract, "-", "`left - right`; of two timestamps a duration.", {
    (i64, i64) -> i64 = i64::checked_sub;
    (f64, f64) -> f64 = |left, right| finite(left - right);
    (Duration, Duration) -> Duration = |left, right| left.as_ms().checked_sub(right.as_ms()).map(Duration::from_ms);
    (Timestamp, Duration) -> Timestamp = |left, right| left.checked_sub(span(right)).ok();
    (Timestamp, Timestamp) -> Duration = |left, right| {
        i64::try_from(left.duration_since(right).as_millis()).ok().map(Duration::from_ms)
    };
});

operator!(multiply, Multiply, "*", "`left * right`.", {
    (i64, i64) -> i64 = i64::checked_mul;
    (f64, f64) -> f64 = |left, right| finite(left * right);
});

operator!(divide, Divide, "/", "`left / right`; of integers without the remainder.", {
    (i64, i64) -> i64 = i64::checked_div;
    (f64, f64) -> f64 = |left, right| finite(left / right);
});

operator!(remainder, Remainder, "%", "`left % right`.", {
    (i64, i64) -> i64 = i64::checked_rem;
    (f64, f64) -> f64 = |left, right| finite(left % right);
});

/// An expression that can fail in several places: its `?` end here.
pub fn attempt<T>(expression: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    expression()
}

/// `-value` of an integer.
pub fn negate(value: i64) -> Result<i64, Failure> {
    value.checked_neg().ok_or_else(|| impossible(&format!("-({value})")))
}

/// `integer(value)`: without the decimals.
pub fn truncate(value: f64) -> Result<i64, Failure> {
    // Both bounds are exact in a double: -2^63 is the first that fits, 2^63 the first that does
    // not.
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    if (-BOUND..BOUND).contains(&value) {
        Ok(value as i64)
    } else {
        Err(impossible(&format!("integer({})", number(value))))
    }
}

/// `number(integer)`, and an integer where a number is wanted: the nearest.
pub fn to_number(value: i64) -> f64 {
    value as f64
}

/// A number's text: no decimals that are not there, no exponent below 10^21.
pub fn number(value: f64) -> impl Display {
    struct Number(f64);
    impl Display for Number {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let size = self.0.abs();
            if size != 0.0 && !(1e-7..1e21).contains(&size) {
                write!(f, "{:e}", self.0)
            } else {
                write!(f, "{}", self.0 + 0.0)
            }
        }
    }
    Number(value)
}

/// `integer(text)`.
pub fn parse_integer(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

/// `number(text)`.
pub fn parse_number(text: &str) -> Option<f64> {
    text.trim().parse().ok().and_then(finite)
}

/// `timestamp(text)`.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// `duration(text)`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    text.parse().ok()
}

/// A timestamp that the compiler has read from a literal.
pub fn timestamp(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(if microseconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// What has a size: a text in characters, a list, a map.
pub trait Size {
    fn size(&self) -> usize;
}

impl Size for str {
    fn size(&self) -> usize {
        self.chars().count()
    }
}

impl Size for String {
    fn size(&self) -> usize {
        self.as_str().size()
    }
}

impl<T> Size for Vec<T> {
    fn size(&self) -> usize {
        self.len()
    }
}

impl<T> Size for IndexMap<String, T> {
    fn size(&self) -> usize {
        self.len()
    }
}

/// `size(value)`.
pub fn size<T: Size + ?Sized>(value: &T) -> i64 {
    i64::try_from(value.size()).unwrap_or(i64::MAX)
}

/// `list[index]`.
pub fn at<T>(list: &[T], index: i64) -> Option<&T> {
    list.get(usize::try_from(index).ok()?)
}

/// `list.sum()`.
pub fn sum<T: Add<T, Out = T> + Display + Copy + Default>(list: &[T]) -> Result<T, Failure> {
    list.iter().try_fold(T::default(), |sum, value| add(sum, *value))
}

/// `list.min()`.
pub fn min<T: PartialOrd + Copy>(list: &[T]) -> Option<T> {
    list.iter().copied().reduce(|least, value| if value < least { value } else { least })
}

/// `list.max()`.
pub fn max<T: PartialOrd + Copy>(list: &[T]) -> Option<T> {
    list.iter().copied().reduce(|most, value| if value > most { value } else { most })
}

/// `list.filter(…)` with a condition that can fail.
pub fn try_filter<T: Clone>(
    list: &[T],
    mut holds: impl FnMut(&T) -> Result<bool, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut kept = Vec::new();
    for value in list {
        if holds(value)? {
            kept.push(value.clone());
        }
    }
    Ok(kept)
}

/// `list.all(…)` with a condition that can fail.
pub fn try_all<T>(
    list: &[T],
    mut holds: impl FnMut(&T) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    for value in list {
        if !holds(value)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `text in list`.
pub fn contains(list: &[String], text: &str) -> bool {
    list.iter().any(|element| element == text)
}

/// `list.exists(…)` with a condition that can fail.
pub fn try_exists<T>(
    list: &[T],
    mut holds: impl FnMut(&T) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    try_all(list, |value| holds(value).map(|holds| !holds)).map(|none| !none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_overflows_or_divides_by_zero_is_an_expression_error() {
        assert_eq!(add(2, 3), Ok(5));
        assert_eq!(divide(-7, 2), Ok(-3));
        assert_eq!(remainder(-7, 2), Ok(-1));
        assert_eq!(
            subtract(at_time("2026-01-02T00:00:00Z"), at_time("2026-01-01T00:00:00Z")),
            Ok(Duration::from_ms(86_400_000))
        );
        assert_eq!(
            add(at_time("2026-01-01T00:00:00Z"), Duration::from_ms(1)),
            Ok(at_time("2026-01-01T00:00:00.001Z"))
        );
        for failure in [
            add(i64::MAX, 1).unwrap_err(),
            subtract(i64::MIN, 1).unwrap_err(),
            multiply(i64::MAX, 2).unwrap_err(),
            divide(1, 0).unwrap_err(),
            divide(i64::MIN, -1).unwrap_err(),
            remainder(1, 0).unwrap_err(),
            negate(i64::MIN).unwrap_err(),
            divide(1.0, 0.0).unwrap_err(),
            multiply(f64::MAX, 2.0).unwrap_err(),
            truncate(1e300).unwrap_err(),
            truncate(9_223_372_036_854_775_808.0).unwrap_err(),
            add(Timestamp::MAX, Duration::from_ms(i64::MAX)).unwrap_err(),
            sum(&[i64::MAX, 1]).unwrap_err(),
        ] {
            assert_eq!(failure.name, Failure::EXPRESSION_ERROR);
        }
        assert_eq!(
            add(i64::MAX, 1).unwrap_err().message,
            "9223372036854775807 + 1 cannot be computed: it is too large, or a division by zero"
        );
    }

    #[test]
    fn numbers_have_one_text() {
        for (value, text) in [
            (5.0, "5"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (-0.0, "0"),
            (1e20, "100000000000000000000"),
            (1e21, "1e21"),
            (1.5e-9, "1.5e-9"),
        ] {
            assert_eq!(number(value).to_string(), text);
        }
        assert_eq!(truncate(-1.9), Ok(-1));
    }

    #[test]
    fn texts_are_converted_or_absent() {
        assert_eq!(
            (parse_integer(" 12 "), parse_integer("1.5"), parse_integer("9223372036854775808")),
            (Some(12), None, None)
        );
        assert_eq!(
            (parse_number("1.5"), parse_number("inf"), parse_number("NaN"), parse_number("1e999")),
            (Some(1.5), None, None, None)
        );
        assert_eq!(parse_timestamp("yesterday"), None);
        assert_eq!(parse_duration("1h"), Some(Duration::from_ms(3_600_000)));
    }

    #[test]
    fn lists_are_looked_into_without_a_panic() {
        let list = vec![3, 1, 2];
        assert_eq!((at(&list, 0), at(&list, 3), at(&list, -1)), (Some(&3), None, None));
        assert_eq!((min(&list), max(&list), sum(&list)), (Some(1), Some(3), Ok(6)));
        assert_eq!(min::<f64>(&[]), None);
        assert_eq!((size("né"), size(&list)), (2, 3));
        assert_eq!(try_filter(&list, |n| Ok(*n > 1)), Ok(vec![3, 2]));
        assert_eq!(try_exists(&list, |n| divide(1, *n).map(|n| n == 1)), Ok(true));
        assert!(try_all(&[1, 0], |n| divide(1, *n).map(|n| n == 1)).is_err());
    }
}
