//! Tables: what type an expression has, and what is said about one that has none.

use std::sync::Arc;

use super::values::plain_field;
use super::*;
use crate::ir::{Enum, Record, TypeName};
use crate::source::FileId;

fn span(length: usize) -> Span {
    Span { file: FileId(0), start: 0, end: length as u32 }
}

fn record(name: &str, fields: &[(&str, Type)]) -> Type {
    let name = TypeName { module: types::NAMED.into(), name: name.into() };
    let fields = fields.iter().map(|(name, ty)| plain_field(name, ty.clone())).collect();
    Type::Record(Arc::new(Record { name, fields }))
}

fn list(of: Type) -> Type {
    Type::List(Box::new(of))
}

fn scope() -> Scope {
    let name = TypeName { module: types::NAMED.into(), name: "Channel".into() };
    let channel = Type::Enum(Arc::new(Enum { name, words: vec!["email".into(), "sms".into()] }));
    let address =
        record("Address", &[("street", Type::String), ("unit", Type::Integer.optional())]);
    let mut scope = Scope::steps(Some(record(
        "Input",
        &[
            ("id", Type::String),
            ("count", Type::Integer),
            ("price", Type::Number),
            ("paid", Type::Boolean),
            ("at", Type::Timestamp),
            ("span", Type::Duration),
            ("raw", Type::Json),
            ("channel", channel.clone()),
            ("other", channel.optional()),
            ("address", address.clone()),
            ("second", address.optional()),
            ("names", list(Type::String)),
            ("maybe", Type::String.optional()),
            ("sizes", list(Type::Integer)),
            ("times", list(Type::Timestamp)),
            ("holes", list(Type::Integer.optional())),
            ("lists", list(list(Type::Number))),
            ("map", Type::Map(Box::new(Type::Integer))),
        ],
    )));
    let result = record("Result", &[("value", Type::Number), ("note", Type::String.optional())]);
    let mut step = |id: &str, result: StepResult, standing: Standing| {
        let known = VisibleStep { place: span(1), result, standing };
        scope.steps.get_or_insert_default().insert(id.into(), known);
    };
    step("done", StepResult::Type(result.clone()), Standing::Certain);
    step("maybe", StepResult::Type(result.clone()), Standing::Maybe("`maybe` has a `when`".into()));
    step("later", StepResult::Type(result.clone()), Standing::Later);
    step("inner", StepResult::Type(result.clone()), Standing::InEach("ship".into()));
    step("aside", StepResult::Type(result), Standing::OtherBranch("fork".into()));
    step("nap", StepResult::None("a `sleep` has none".into()), Standing::Certain);
    scope.items.push(("item".into(), Type::Integer));
    scope
}

fn checked(written: &str, wanted: Option<&Type>) -> Result<Expr, Diagnostic> {
    let (mut scope, mut sink) = (scope(), Sink::default());
    let mut checker = Checker { scope: &mut scope, sink: &mut sink };
    let text = Text::new(written, span(written.len()));
    let found = match wanted {
        Some(wanted) => checker.expression(&text, wanted),
        None => checker.expression_of_any_type(&text).map(|(found, _)| found),
    };
    let mut said = sink.into_sorted();
    match found {
        Some(found) => {
            assert!(said.is_empty(), "{written}: {said:?}");
            Ok(found)
        }
        None => {
            assert_eq!(said.len(), 1, "{written}: one mistake, one error, not {said:#?}");
            Err(said.remove(0))
        }
    }
}

#[test]
fn every_expression_has_a_type() {
    for (written, expected) in [
        ("1", "integer"),
        ("1.5", "number"),
        ("'a' + 'b'", "string"),
        ("input.count * 2 + item", "integer"),
        ("input.count / 2 % 3", "integer"),
        ("input.price * number(input.count)", "number"),
        ("-input.price", "number"),
        ("integer(input.price)", "integer"),
        ("integer(input.id)", "integer?"),
        ("integer(input.id) ?? 0", "integer"),
        ("integer('12')", "integer"),
        ("number('1.5')", "number"),
        ("duration('1h30m')", "duration"),
        ("timestamp('2026-08-21T14:25:36Z')", "timestamp"),
        ("timestamp(input.id)", "timestamp?"),
        ("string(input.channel) + string(input.at)", "string"),
        ("input.at + duration('2d')", "timestamp"),
        ("input.at + ((input.paid ? input.span : null) ?? duration('1s'))", "timestamp"),
        ("input.at + ((input.paid ? null : input.span) ?? duration('1s'))", "timestamp"),
        ("now() - input.at", "duration"),
        ("input.span - duration('1s')", "duration"),
        ("input.span + input.span < duration('1h')", "boolean"),
        ("input.channel", "Channel"),
        ("input.channel == 'email'", "boolean"),
        ("'sms' != input.other", "boolean"),
        ("input.channel in ['email', 'sms']", "boolean"),
        ("input.id in input.names", "boolean"),
        ("'a' in input.map", "boolean"),
        ("input.maybe == null", "boolean"),
        ("input.maybe == 'x'", "boolean"),
        ("input.maybe ?? 'none'", "string"),
        ("input.maybe ?? input.second?.street", "string?"),
        ("input.maybe ?? input.second?.street ?? ''", "string"),
        ("input.second?.unit", "integer?"),
        ("input.address.unit ?? 1", "integer"),
        ("input.other ?? 'email'", "Channel"),
        ("input.paid ? input.channel : 'sms'", "Channel"),
        ("input.paid ? 1 : 2.5", "number"),
        ("input.paid ? 'x' : null", "string?"),
        ("input.paid ? null : input.count", "integer?"),
        ("input.names[0]", "string?"),
        ("input.holes[0]", "integer?"),
        ("input.map['a']", "integer?"),
        ("input.map['a'] ?? 0", "integer"),
        ("input.names.map(n, size(n))", "list<integer>"),
        ("input.sizes.map(n, n > 2 ? 'big' : 'small')", "list<string>"),
        ("input.names.filter(n, n.startsWith('x')).join(', ')", "string"),
        ("input.lists.map(xs, xs.map(x, x + 1.0).sum())", "list<number>"),
        ("input.sizes.all(n, n > 0) && input.names.exists(n, n == input.id)", "boolean"),
        ("input.sizes.sum()", "integer"),
        ("input.sizes.max() ?? 0", "integer"),
        ("input.times.min()", "timestamp?"),
        ("input.names + ['x']", "list<string>"),
        ("input.names.contains('x') || input.id.lower().contains('x')", "boolean"),
        ("input.id.upper()", "string"),
        ("size(input.map) + size(input.id)", "integer"),
        ("has(input.maybe)", "boolean"),
        ("has(input.raw, 'a.b')", "boolean"),
        ("input.raw == input.raw", "boolean"),
        ("input.address == input.address", "boolean"),
        ("steps.done.value", "number"),
        ("steps.done.note", "string?"),
        ("steps.maybe?.value", "number?"),
        ("steps.maybe?.note ?? ''", "string"),
        ("has(steps.maybe)", "boolean"),
        ("instance.started_at + duration('1d')", "timestamp"),
        ("instance.id + instance.request_id + config.region", "string"),
        ("[1, 2.5]", "list<number>"),
        ("!input.paid", "boolean"),
        ("input.id < 'm'", "boolean"),
    ] {
        match checked(written, None) {
            Ok(found) => {
                assert_eq!(show(&found.ty), expected, "{written}");
                // Written back and read again it is the same expression.
                let again = crate::graph::expression(&found);
                assert_eq!(checked(&again, None).as_ref(), Ok(&found), "{written} became {again}");
            }
            Err(error) => panic!("{written}: {error:#?}"),
        }
    }
}

#[test]
fn a_value_is_made_to_fit_its_place() {
    for (written, wanted) in [
        ("1", Type::Number),
        ("input.count", Type::Number),
        ("input.id", Type::String.optional()),
        ("null", Type::String.optional()),
        ("[]", list(Type::String)),
        ("[1, 2]", list(Type::Number)),
        ("input.sizes", list(Type::Number)),
        ("input.names", Type::Json),
        ("[1, 'a']", Type::Json),
        (
            "input.address",
            record("Street", &[("street", Type::String), ("city", Type::String.optional())]),
        ),
        ("input.paid ? [] : ['a']", list(Type::String)),
    ] {
        match checked(written, Some(&wanted)) {
            Ok(found) => assert!(same(&found.ty, &wanted), "{written} is {}", show(&found.ty)),
            Err(error) => panic!("{written}: {error:#?}"),
        }
    }
}

#[test]
fn what_has_no_type_is_explained_where_it_is_wrong() {
    for (written, code, at, message) in [
        ("inptu.id", codes::UNKNOWN_NAME, "inptu", "there is no `inptu` here"),
        ("email", codes::UNKNOWN_NAME, "email", "there is no `email` here"),
        ("event.id", codes::UNKNOWN_NAME, "event", "there is no `event` here"),
        ("steps", codes::UNKNOWN_NAME, "steps", "`steps` is not a value on its own"),
        ("input.idd", codes::UNKNOWN_FIELD, "idd", "there is no field `idd` in the input"),
        ("input.raw.a", codes::UNKNOWN_FIELD, "a", "json has no field `a`"),
        ("input.id.length", codes::UNKNOWN_FIELD, "length", "a string has no field `length`"),
        (
            "steps.dnoe.value",
            codes::UNKNOWN_STEP,
            "dnoe",
            "there is no step `dnoe` in this workflow",
        ),
        ("steps.later.value", codes::STEP_LATER, "later", "`later` runs later"),
        (
            "steps.aside.value",
            codes::STEP_ELSEWHERE,
            "aside",
            "`aside` is in another branch of `fork`",
        ),
        (
            "steps.inner.value",
            codes::STEP_ELSEWHERE,
            "inner",
            "`inner` runs once per element of `ship`: it has no single result outside",
        ),
        ("steps.nap", codes::STEP_WITHOUT_RESULT, "nap", "`nap` has no result"),
        (
            "steps.maybe.value",
            codes::MAY_BE_ABSENT,
            "steps.maybe",
            "this may be absent: it is Result?",
        ),
        (
            "steps.done?.value",
            codes::NEVER_ABSENT,
            "?.",
            "`?.` after what is never absent: this is Result",
        ),
        (
            "input.id ?? 'x'",
            codes::NEVER_ABSENT,
            "??",
            "`??` after what is never absent: this is string",
        ),
        ("has(input.id)", codes::NEVER_ABSENT, "input.id", "this is never absent: it is string"),
        ("input.id == null", codes::NEVER_ABSENT, "null", "this is never absent: it is string"),
        (
            "input.names[0] + 'x'",
            codes::MAY_BE_ABSENT,
            "input.names[0]",
            "this may be absent: it is string?",
        ),
        (
            "input.maybe.lower()",
            codes::MAY_BE_ABSENT,
            "input.maybe",
            "this may be absent: it is string?",
        ),
        (
            "input.sizes.max() > 1",
            codes::MAY_BE_ABSENT,
            "input.sizes.max()",
            "this may be absent: it is integer?",
        ),
        (
            "input.count + 1.5",
            codes::OPERAND_TYPE,
            "+",
            "`+` does not take an integer and a number",
        ),
        ("input.price > 1", codes::OPERAND_TYPE, ">", "`>` does not take a number and an integer"),
        (
            "input.price == 1",
            codes::OPERAND_TYPE,
            "==",
            "`==` does not take a number and an integer",
        ),
        ("input.id + 1", codes::OPERAND_TYPE, "+", "`+` does not take a string and an integer"),
        (
            "input.at > '2026-01-01'",
            codes::OPERAND_TYPE,
            ">",
            "`>` does not take a timestamp and a string",
        ),
        ("input.paid < input.paid", codes::OPERAND_TYPE, "<", "`<` does not take a boolean"),
        (
            "input.channel == input.id",
            codes::OPERAND_TYPE,
            "==",
            "`==` does not take a Channel and a string",
        ),
        ("input.span * 2", codes::OPERAND_TYPE, "*", "`*` does not take a duration and an integer"),
        (
            "'x' in input.id",
            codes::OPERAND_TYPE,
            "in",
            "`in` looks into a list or a map, not into a string",
        ),
        (
            "-input.id",
            codes::OPERAND_TYPE,
            "input.id",
            "`-` takes an integer or a number, not a string",
        ),
        (
            "input.id && input.paid",
            codes::TYPE_MISMATCH,
            "input.id",
            "expected boolean, found string",
        ),
        ("!input.count", codes::TYPE_MISMATCH, "input.count", "expected boolean, found integer"),
        (
            "input.paid ? 1 : 'a'",
            codes::TYPE_MISMATCH,
            "'a'",
            "one branch is integer, the other string",
        ),
        ("input.maybe ?? 5", codes::TYPE_MISMATCH, "5", "expected string, found integer"),
        (
            "input.sizes.contains('a')",
            codes::TYPE_MISMATCH,
            "'a'",
            "expected integer, found string",
        ),
        ("input.channel == 'fax'", codes::ENUM_WORD, "'fax'", "`fax` is not a value of Channel"),
        (
            "input.channel in ['email', 'emial']",
            codes::ENUM_WORD,
            "'emial'",
            "`emial` is not a value of Channel",
        ),
        ("true && input.paid", codes::CONDITION_LITERAL, "true", "this condition is always true"),
        (
            "1 == 1",
            codes::CONDITION_LITERAL,
            "==",
            "both sides of this comparison are literals: it never changes",
        ),
        ("false ? 1 : 2", codes::CONDITION_LITERAL, "false", "this condition is always false"),
        ("lower(input.id)", codes::UNKNOWN_FUNCTION, "lower", "there is no function `lower(…)`"),
        ("input.id.size()", codes::UNKNOWN_FUNCTION, "size", "there is no function `.size(…)`"),
        (
            "input.id.startWith('a')",
            codes::UNKNOWN_FUNCTION,
            "startWith",
            "there is no function `.startWith(…)`",
        ),
        ("now(1)", codes::FUNCTION_ARGUMENTS, "now", "`now` does not take 1 argument"),
        (
            "size(input.count)",
            codes::FUNCTION_ARGUMENTS,
            "input.count",
            "`size` takes a string, a list or a map, not an integer",
        ),
        (
            "string(input.names)",
            codes::FUNCTION_ARGUMENTS,
            "input.names",
            "`string` takes integer, number, boolean, timestamp, duration or an enum value, not a list<string>",
        ),
        (
            "integer(input.count)",
            codes::FUNCTION_ARGUMENTS,
            "integer(input.count)",
            "this is an integer already",
        ),
        (
            "input.sizes.join(',')",
            codes::FUNCTION_ARGUMENTS,
            "join",
            "`.join(…)` follows a list<string>, not a list<integer>",
        ),
        (
            "input.names.map(input, 1)",
            codes::NAME_TAKEN,
            "input",
            "`input` means something in every expression",
        ),
        ("input.names.map(item, item)", codes::NAME_TAKEN, "item", "`item` is an element already"),
        (
            "input.names.map('x', 1)",
            codes::FUNCTION_ARGUMENTS,
            "'x'",
            "the first argument is the name of the element",
        ),
        ("duration('48')", codes::LITERAL, "'48'", "`48` is not a valid duration"),
        (
            "timestamp('yesterday')",
            codes::LITERAL,
            "'yesterday'",
            "`yesterday` is not a valid timestamp",
        ),
        ("input.count / 0", codes::ALWAYS_FAILS, "0", "a division by zero always fails"),
        ("[]", codes::TYPE_UNKNOWABLE, "[]", "the type of the elements of `[]` is unknown"),
        ("null", codes::TYPE_UNKNOWABLE, "null", "the type of this `null` is unknown"),
        ("config", codes::UNKNOWN_NAME, "config", "`config` is not a value on its own"),
        ("instance.name", codes::UNKNOWN_FIELD, "name", "there is no `instance.name`"),
        ("input.map.a", codes::UNKNOWN_FIELD, "a", "a map<integer> has no field `a`"),
        ("input.address[0]", codes::OPERAND_TYPE, "input.address", "an Address has no elements"),
    ] {
        let error = checked(written, None).map(|found| show(&found.ty)).expect_err(written);
        assert_eq!((error.code, error.message.as_str()), (code, message), "{written}");
        let (start, end) = (error.span.start as usize, error.span.end as usize);
        assert_eq!(&written[start..end], at, "{written}");
    }
}

#[test]
fn nested_lists_are_inferred_once() {
    let deep = format!("{}1{}", "[".repeat(90), "]".repeat(90));
    assert!(checked(&deep, None).is_ok());
    let deep = (0..30).fold("1".to_owned(), |inner, _| format!("(input.paid ? {inner} : 2)"));
    assert!(checked(&deep, None).is_ok_and(|found| found.ty == Type::Integer));
}
