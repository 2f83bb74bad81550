//! What expressions give, from the pages of the language alone.

use std::collections::BTreeMap;

use serde_json::{Number, Value as Json};

use super::details::default_of;
use super::program::{Ex, Kind, Root, Sink, Ty, Val};

/// It cannot be computed: `ExpressionError`.
#[derive(Debug, Clone, PartialEq)]
pub struct Impossible;

pub type Result<T> = std::result::Result<T, Impossible>;

/// Where names lead.
pub trait Reads {
    fn root(&self, root: &Root) -> Val;
    /// Microseconds.
    fn now(&self) -> i64;
}

/// Days since 1970 as a date of the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    let mut year = 1970 + days.div_euclid(366);
    let days_before = |year: i64| {
        let past = year - 1;
        past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) - 719_162
    };
    while days_before(year + 1) <= days {
        year += 1;
    }
    while days_before(year) > days {
        year -= 1;
    }
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut day = days - days_before(year);
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    (year, month as i64 + 1, day + 1)
}

/// RFC 3339 in UTC, with no more decimals than there are.
pub fn time_text(microseconds: i64) -> String {
    let (seconds, rest) = (microseconds.div_euclid(1_000_000), microseconds.rem_euclid(1_000_000));
    let ((year, month, day), second) =
        (date(seconds.div_euclid(86_400)), seconds.rem_euclid(86_400));
    let decimals = if rest == 0 {
        String::new()
    } else {
        format!(".{rest:06}").trim_end_matches('0').to_owned()
    };
    let year = if year < 0 { format!("-{:06}", -year) } else { format!("{year:04}") };
    format!(
        "{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}{decimals}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

pub fn duration_text(ms: i64) -> String {
    let mut rest = ms.unsigned_abs();
    let mut text = String::new();
    for (unit, size) in
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
    {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    match (text.is_empty(), ms < 0) {
        (true, _) => "0s".into(),
        (false, true) => format!("-{text}"),
        (false, false) => text,
    }
}

/// As JavaScript writes it.
fn number_text(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    // The shortest digits that mean this number, and where the point stands.
    let scientific = format!("{:e}", value.abs());
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let sign = if value < 0.0 { "-" } else { "" };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-7..21).contains(&exponent) {
        return format!("{sign}{digits}e{exponent}");
    }
    let digits = digits.replace('.', "");
    let plain = if exponent < 0 {
        format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize))
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            format!("{digits}{}", "0".repeat(whole - digits.len()))
        } else {
            format!("{}.{}", &digits[..whole], &digits[whole..])
        }
    };
    format!("{sign}{plain}")
}

pub fn text_of(value: &Val) -> String {
    match value {
        Val::Str(text) | Val::Word(text) => text.clone(),
        Val::Int(value) => value.to_string(),
        Val::Num(value) => number_text(*value),
        Val::Bool(value) => value.to_string(),
        Val::Time(at) => time_text(*at),
        Val::Dur(ms) => duration_text(*ms),
        other => format!("{other:?} has no text"),
    }
}

pub fn json_of(value: &Val) -> Json {
    match value {
        Val::Null => Json::Null,
        Val::Int(value) => Json::Number((*value).into()),
        Val::Num(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Val::Bool(value) => Json::Bool(*value),
        Val::Json(value) => value.clone(),
        Val::List(items) => Json::Array(items.iter().map(json_of).collect()),
        Val::Map(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (key.clone(), json_of(value))).collect())
        }
        Val::Rec(fields) => {
            let there = fields.iter().filter(|(_, value)| *value != Val::Null);
            Json::Object(there.map(|(name, value)| (name.clone(), json_of(value))).collect())
        }
        text => Json::String(text_of(text)),
    }
}

fn finite(value: f64) -> Result<Val> {
    if value.is_finite() { Ok(Val::Num(value)) } else { Err(Impossible) }
}

/// From -9999-01-02 on, up to 9999-12-30, with the margins that time zones need.
fn in_calendar(microseconds: i128) -> Result<Val> {
    let bounds = -377_705_023_201_000_000_i128..=253_402_207_200_999_999_i128;
    if bounds.contains(&microseconds) {
        Ok(Val::Time(microseconds as i64))
    } else {
        Err(Impossible)
    }
}

fn arithmetic(op: &str, left: Val, right: Val) -> Result<Val> {
    use Val::{Dur, Int, List, Num, Str, Time};
    let checked = |value: Option<i64>| value.ok_or(Impossible);
    Ok(match (left, right) {
        (Int(a), Int(b)) => Int(checked(match op {
            "+" => a.checked_add(b),
            "-" => a.checked_sub(b),
            "*" => a.checked_mul(b),
            "/" => a.checked_div(b),
            _ => a.checked_rem(b),
        })?),
        (Num(a), Num(b)) => finite(match op {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            "/" => a / b,
            _ => a % b,
        })?,
        (Str(a), Str(b)) => Str(a + &b),
        (List(mut a), List(b)) => {
            a.extend(b);
            List(a)
        }
        (Dur(a), Dur(b)) => {
            Dur(checked(if op == "+" { a.checked_add(b) } else { a.checked_sub(b) })?)
        }
        (Time(at), Dur(ms)) => {
            let by = i128::from(ms) * 1_000;
            in_calendar(i128::from(at) + if op == "+" { by } else { -by })?
        }
        (Time(a), Time(b)) => Dur(((i128::from(a) - i128::from(b)) / 1_000) as i64),
        (left, right) => panic!("{left:?} {op} {right:?}"),
    })
}

fn is_less(left: &Val, right: &Val) -> bool {
    match (left, right) {
        (Val::Int(a), Val::Int(b)) => a < b,
        (Val::Num(a), Val::Num(b)) => a < b,
        (Val::Str(a), Val::Str(b)) => a < b,
        (Val::Time(a), Val::Time(b)) | (Val::Dur(a), Val::Dur(b)) => a < b,
        (left, right) => panic!("{left:?} < {right:?}"),
    }
}

fn parsed(text: &str, what: &str) -> Val {
    let found = match what {
        "integer" => text.trim().parse().ok().map(Val::Int),
        "number" => text.trim().parse::<f64>().ok().filter(|value| value.is_finite()).map(Val::Num),
        // Made texts are either of these or nothing of the kind.
        "timestamp" => [0, 1_767_323_045_000_000, 1_767_323_045_500_000, -1_000_000, 1_000]
            .map(Val::Time)
            .into_iter()
            .find(|at| text_of(at) == text),
        _ => duration(text),
    };
    found.unwrap_or(Val::Null)
}

/// `1h30m`: each unit once, from large to small.
fn duration(text: &str) -> Option<Val> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut total: i64 = 0;
    let mut last = i64::MAX;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let size = match &after[..letters] {
            "d" => 86_400_000,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        if size >= last {
            return None;
        }
        last = size;
        total = total.checked_add(rest[..digits].parse::<i64>().ok()?.checked_mul(size)?)?;
        rest = &after[letters..];
    }
    Some(Val::Dur(sign * total))
}

/// An expression's variables, innermost last, over what is around it.
pub struct Eval<'r, R> {
    reads: &'r R,
    bound: Vec<(String, Val)>,
}

impl<'r, R: Reads> Eval<'r, R> {
    pub fn new(reads: &'r R) -> Self {
        Self { reads, bound: Vec::new() }
    }

    fn is_true(&mut self, ex: &Ex) -> Result<bool> {
        Ok(self.value(ex)? == Val::Bool(true))
    }

    pub fn value(&mut self, ex: &Ex) -> Result<Val> {
        Ok(match &ex.kind {
            Kind::Lit(value) => value.clone(),
            Kind::Null => Val::Null,
            Kind::List(items) => {
                Val::List(items.iter().map(|item| self.value(item)).collect::<Result<_>>()?)
            }
            Kind::Root(Root::Item(name)) => {
                match self.bound.iter().rev().find(|(bound, _)| bound == name) {
                    Some((_, value)) => value.clone(),
                    None => self.reads.root(&Root::Item(name.clone())),
                }
            }
            Kind::Root(root) => self.reads.root(root),
            Kind::Field(of, name) => match self.value(of)? {
                Val::Rec(fields) => fields
                    .into_iter()
                    .find(|(field, _)| field == name)
                    .map_or(Val::Null, |(_, value)| value),
                _ => Val::Null,
            },
            Kind::Index(of, index) => match (self.value(of)?, self.value(index)?) {
                (Val::List(items), Val::Int(at)) => usize::try_from(at)
                    .ok()
                    .and_then(|at| items.get(at).cloned())
                    .unwrap_or(Val::Null),
                (Val::Map(entries), Val::Str(key)) => {
                    entries.get(&key).cloned().unwrap_or(Val::Null)
                }
                (of, index) => panic!("{of:?}[{index:?}]"),
            },
            Kind::Not(of) => Val::Bool(!self.is_true(of)?),
            Kind::Neg(of) => match self.value(of)? {
                Val::Int(value) => Val::Int(value.checked_neg().ok_or(Impossible)?),
                Val::Num(value) => Val::Num(-value),
                other => panic!("-{other:?}"),
            },
            Kind::Bin("&&", left, right) => Val::Bool(self.is_true(left)? && self.is_true(right)?),
            Kind::Bin("||", left, right) => Val::Bool(self.is_true(left)? || self.is_true(right)?),
            Kind::Bin(op, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                match *op {
                    "==" => Val::Bool(left == right),
                    "!=" => Val::Bool(left != right),
                    "<" => Val::Bool(is_less(&left, &right)),
                    ">" => Val::Bool(is_less(&right, &left)),
                    "<=" => Val::Bool(!is_less(&right, &left)),
                    ">=" => Val::Bool(!is_less(&left, &right)),
                    "in" => Val::Bool(match (&left, &right) {
                        (Val::Str(key), Val::Map(entries)) => entries.contains_key(key),
                        (_, Val::List(items)) => items.contains(&left),
                        _ => panic!("{left:?} in {right:?}"),
                    }),
                    op => arithmetic(op, left, right)?,
                }
            }
            Kind::Coalesce(left, right) => match self.value(left)? {
                Val::Null => self.value(right)?,
                value => value,
            },
            Kind::If(condition, then, other) => {
                let chosen = if self.is_true(condition)? { then } else { other };
                self.value(chosen)?
            }
            Kind::Call("now", _) => Val::Time(self.reads.now()),
            Kind::Call(function, args) => {
                let args: Vec<Val> =
                    args.iter().map(|arg| self.value(arg)).collect::<Result<_>>()?;
                match (*function, args.as_slice()) {
                    ("size", [Val::Str(text)]) => Val::Int(text.chars().count() as i64),
                    ("size", [Val::List(items)]) => Val::Int(items.len() as i64),
                    ("size", [Val::Map(entries)]) => Val::Int(entries.len() as i64),
                    ("has", [value]) => Val::Bool(*value != Val::Null),
                    ("has", [Val::Json(json), Val::Str(key)]) => {
                        Val::Bool(json.get(key).is_some_and(|value| !value.is_null()))
                    }
                    ("string", [value]) => Val::Str(text_of(value)),
                    ("number", [Val::Int(value)]) => Val::Num(*value as f64),
                    ("integer", [Val::Num(value)]) => {
                        let whole = value.trunc();
                        if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0)
                            .contains(&whole)
                        {
                            Val::Int(whole as i64)
                        } else {
                            return Err(Impossible);
                        }
                    }
                    (what, [Val::Str(text)]) => parsed(text, what),
                    (function, args) => panic!("{function}({args:?})"),
                }
            }
            Kind::Method(method, of, args) => {
                let of = self.value(of)?;
                let args: Vec<Val> =
                    args.iter().map(|arg| self.value(arg)).collect::<Result<_>>()?;
                match (*method, &of, args.as_slice()) {
                    ("contains", Val::List(items), [part]) => Val::Bool(items.contains(part)),
                    ("contains", Val::Str(text), [Val::Str(part)]) => {
                        Val::Bool(text.contains(part.as_str()))
                    }
                    ("startsWith", Val::Str(text), [Val::Str(part)]) => {
                        Val::Bool(text.starts_with(part.as_str()))
                    }
                    ("endsWith", Val::Str(text), [Val::Str(part)]) => {
                        Val::Bool(text.ends_with(part.as_str()))
                    }
                    ("lower", Val::Str(text), []) => Val::Str(text.to_lowercase()),
                    ("upper", Val::Str(text), []) => Val::Str(text.to_uppercase()),
                    ("join", Val::List(items), [Val::Str(between)]) => {
                        Val::Str(items.iter().map(text_of).collect::<Vec<_>>().join(between))
                    }
                    ("sum", Val::List(items), []) => {
                        let zero = if ex.ty == Ty::Int { Val::Int(0) } else { Val::Num(0.0) };
                        items
                            .iter()
                            .try_fold(zero, |sum, item| arithmetic("+", sum, item.clone()))?
                    }
                    ("min", Val::List(items), []) => items
                        .iter()
                        .cloned()
                        .reduce(|a, b| if is_less(&b, &a) { b } else { a })
                        .unwrap_or(Val::Null),
                    ("max", Val::List(items), []) => items
                        .iter()
                        .cloned()
                        .reduce(|a, b| if is_less(&a, &b) { b } else { a })
                        .unwrap_or(Val::Null),
                    (method, of, args) => panic!("{of:?}.{method}({args:?})"),
                }
            }
            Kind::Iter(how, over, variable, body) => {
                let Val::List(items) = self.value(over)? else { panic!("{over:?} is no list") };
                self.iterate(how, items, variable, body)?
            }
        })
    }

    fn iterate(&mut self, how: &str, items: Vec<Val>, variable: &str, body: &Ex) -> Result<Val> {
        let mut kept = Vec::new();
        for item in items {
            self.bound.push((variable.to_owned(), item.clone()));
            let value = self.value(body);
            self.bound.pop();
            match (how, value?) {
                ("map", value) => kept.push(value),
                ("filter", Val::Bool(true)) => kept.push(item),
                ("all", Val::Bool(false)) => return Ok(Val::Bool(false)),
                ("exists", Val::Bool(true)) => return Ok(Val::Bool(true)),
                _ => {}
            }
        }
        Ok(match how {
            "all" => Val::Bool(true),
            "exists" => Val::Bool(false),
            _ => Val::List(kept),
        })
    }

    /// A text with values in it.
    pub fn text(&mut self, parts: &[Ex]) -> Result<String> {
        parts.iter().map(|part| Ok(text_of(&self.value(part)?))).collect()
    }

    /// What arrives in a place of that type.
    pub fn sink(&mut self, sink: &Sink, ty: &Ty) -> Result<Val> {
        Ok(match (sink, ty.present()) {
            (Sink::Ex(ex), ty) if !matches!(ty, Ty::With(_)) => fit(self.value(ex)?, ty),
            (Sink::Text(parts), _) => Val::Str(self.text(parts)?),
            (Sink::List(items), Ty::List(of)) => {
                Val::List(items.iter().map(|item| self.sink(item, of)).collect::<Result<_>>()?)
            }
            (Sink::Rec(values), Ty::Named(name)) => self.fields(values, &super::fields(name))?,
            (Sink::Map(values), Ty::Map(of)) => {
                let values =
                    values.iter().map(|(key, value)| Ok((key.clone(), self.sink(value, of)?)));
                Val::Map(values.collect::<Result<_>>()?)
            }
            (sink, Ty::With(at)) => self.sink(sink, &super::details::detail(*at).of)?,
            (sink, ty) => panic!("{sink:?} into {ty:?}"),
        })
    }

    /// A record of sinks.
    pub fn fields(&mut self, values: &[(String, Sink)], fields: &[(String, Ty)]) -> Result<Val> {
        let mut all = Vec::new();
        for (name, ty) in fields {
            let value = values.iter().find(|(given, _)| given == name);
            all.push((
                name.clone(),
                value.map_or_else(|| Ok(default_of(ty)), |(_, sink)| self.sink(sink, ty))?,
            ));
        }
        Ok(Val::Rec(all))
    }
}

/// A value of a narrower type as one of a wider.
fn fit(value: Val, ty: &Ty) -> Val {
    match (value, ty.present()) {
        (Val::Null, _) => Val::Null,
        (Val::Json(value), Ty::Json) => Val::Json(value),
        (value, Ty::Json) => Val::Json(json_of(&value)),
        (value, Ty::With(at)) => fit(value, &super::details::detail(*at).of),
        (Val::Int(value), Ty::Num) => Val::Num(value as f64),
        (Val::List(items), Ty::List(of)) => {
            Val::List(items.into_iter().map(|item| fit(item, of)).collect())
        }
        (Val::Map(entries), Ty::Map(of)) => Val::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key, fit(value, of)))
                .collect::<BTreeMap<_, _>>(),
        ),
        (Val::Rec(fields), Ty::Named(name)) => {
            let wanted = super::fields(name).into_iter().map(|(name, ty)| {
                let found = fields
                    .iter()
                    .find(|(field, _)| *field == name)
                    .map_or(Val::Null, |(_, value)| value.clone());
                (name, fit(found, &ty))
            });
            Val::Rec(wanted.collect())
        }
        (value, _) => value,
    }
}
