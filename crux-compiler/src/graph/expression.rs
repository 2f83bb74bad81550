//! Expressions written back as text, for people: coercions are left out, parentheses stand where
//! the precedence needs them.

use crate::builtins::{self, Form};
use crate::ir::{Expr, ExprKind, Function, Iterate, Op, Value};
use crate::units::format_duration;

/// Binding strength, as in the parser: what binds tighter is greater.
mod power {
    pub const TERNARY: u8 = 1;
    pub const COALESCE: u8 = 2;
    pub const UNARY: u8 = 8;
    pub const POSTFIX: u8 = 9;
}

/// The text of an expression, as a user could have written it.
pub fn expression(expr: &Expr) -> String {
    write(expr, 0)
}

fn write(expr: &Expr, outer: u8) -> String {
    let (text, own) = match &expr.kind {
        ExprKind::Text(text) | ExprKind::Word(text) => (format!("{text:?}"), power::POSTFIX),
        ExprKind::Integer(value) => {
            (value.to_string(), if *value < 0 { power::UNARY } else { power::POSTFIX })
        }
        ExprKind::Number(value) => {
            (format!("{value:?}"), if *value < 0.0 { power::UNARY } else { power::POSTFIX })
        }
        ExprKind::Boolean(value) => (value.to_string(), power::POSTFIX),
        ExprKind::Timestamp(micros) => {
            let shown = jiff::Timestamp::from_microsecond(*micros)
                .map_or_else(|_| micros.to_string(), |time| time.to_string());
            (format!("timestamp(\"{shown}\")"), power::POSTFIX)
        }
        ExprKind::Duration { ms } => {
            (format!("duration(\"{}\")", format_duration(ms.unsigned_abs())), power::POSTFIX)
        }
        ExprKind::Null => ("null".into(), power::POSTFIX),
        ExprKind::List(items) => (format!("[{}]", list(items)), power::POSTFIX),
        ExprKind::Record(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}: {}", write(value, 0))).collect();
            (format!("{{ {} }}", fields.join(", ")), power::POSTFIX)
        }
        ExprKind::Value(value) => (value_text(value), power::POSTFIX),
        ExprKind::Field { of, name, optional } => (
            format!("{}{}{name}", write(of, power::POSTFIX), if *optional { "?." } else { "." }),
            power::POSTFIX,
        ),
        ExprKind::Index { of, index } => {
            (format!("{}[{}]", write(of, power::POSTFIX), write(index, 0)), power::POSTFIX)
        }
        ExprKind::Not(of) => (format!("!{}", write(of, power::UNARY)), power::UNARY),
        ExprKind::Negate(of) => (format!("-{}", write(of, power::UNARY)), power::UNARY),
        ExprKind::Binary { op, left, right } => {
            let (symbol, own) = operator(*op);
            // Comparisons do not chain, so neither side may be one.
            let left_power = if own == COMPARE { own + 1 } else { own };
            (format!("{} {symbol} {}", write(left, left_power), write(right, own + 1)), own)
        }
        ExprKind::Coalesce { left, right } => (
            format!("{} ?? {}", write(left, power::COALESCE), write(right, power::COALESCE + 1)),
            power::COALESCE,
        ),
        ExprKind::If { condition, then, other } => (
            format!(
                "{} ? {} : {}",
                write(condition, power::COALESCE),
                write(then, power::TERNARY),
                write(other, power::TERNARY)
            ),
            power::TERNARY,
        ),
        ExprKind::Call { function, args } => (call(*function, args), power::POSTFIX),
        ExprKind::Iterate { how, over, variable, body } => {
            let how = match how {
                Iterate::Map => "map",
                Iterate::Filter => "filter",
                Iterate::All => "all",
                Iterate::Exists => "exists",
            };
            (
                format!("{}.{how}({variable}, {})", write(over, power::POSTFIX), write(body, 0)),
                power::POSTFIX,
            )
        }
        ExprKind::Interpolate(parts) => {
            let parts: String = parts
                .iter()
                .map(|part| match &part.kind {
                    ExprKind::Text(text) => text.clone(),
                    _ => format!("${{{}}}", write(part, 0)),
                })
                .collect();
            (format!("{parts:?}"), power::POSTFIX)
        }
        ExprKind::Coerce(inner) => return write(inner, outer),
    };
    if own < outer { format!("({text})") } else { text }
}

const COMPARE: u8 = 5;

fn operator(op: Op) -> (&'static str, u8) {
    match op {
        Op::Or => ("||", 3),
        Op::And => ("&&", 4),
        Op::Equal => ("==", COMPARE),
        Op::NotEqual => ("!=", COMPARE),
        Op::Less => ("<", COMPARE),
        Op::LessEqual => ("<=", COMPARE),
        Op::Greater => (">", COMPARE),
        Op::GreaterEqual => (">=", COMPARE),
        Op::In => ("in", COMPARE),
        Op::Add => ("+", 6),
        Op::Subtract => ("-", 6),
        Op::Multiply => ("*", 7),
        Op::Divide => ("/", 7),
        Op::Remainder => ("%", 7),
    }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Input => "input".into(),
        Value::Step(id) => format!("steps.{id}"),
        Value::Item(name) => name.clone(),
        Value::Event | Value::TriggerEvent => "event".into(),
        Value::Error => "error".into(),
        Value::InstanceId => "instance.id".into(),
        Value::RequestId => "instance.request_id".into(),
        Value::StartedAt => "instance.started_at".into(),
        Value::Config(name) => format!("config.{name}"),
        Value::Now => "now()".into(),
    }
}

fn call(function: Function, args: &[Expr]) -> String {
    let (name, form) = builtins::name_of(function);
    match (form, args.split_first()) {
        (Form::Method, Some((receiver, rest))) => {
            format!("{}.{name}({})", write(receiver, power::POSTFIX), list(rest))
        }
        _ => format!("{name}({})", list(args)),
    }
}

fn list(items: &[Expr]) -> String {
    items.iter().map(|item| write(item, 0)).collect::<Vec<_>>().join(", ")
}
