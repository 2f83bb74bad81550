//! What expressions give: the inputs that the steps of `expressions.yaml` get.

use crate::pipelines::expressions::Workflow;
use crux_runtime::machine::{Effect, Phase};
use serde_json::{Value, json};

use crate::driver::Driver;

fn input() -> Value {
    json!({
        "text": "abc", "other": "bc", "count": 3, "price": 2.5, "paid": true, "due": "2026-08-21T14:25:36Z", "span": "1h30m",
        "colour": "red", "raw": {"a": 1, "b": [1, 2.50]}, "words": ["abc", "b", "c"], "sizes": [4, 1, 2], "prices": [1.5, 3.0],
        "times": ["2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"], "holes": [null, "x"], "lists": [[1], [2, 3]], "map": {"a": 5},
        "items": [], "lines": [
            {"sku": "s1", "count": 2, "price": 1.5, "colour": "red"},
            {"sku": "s2", "count": 1, "price": 9.0, "note": "n", "colour": "blue"},
        ],
        "line": {"sku": "s1", "count": 2, "price": 1.5, "colour": "red"},
    })
}

/// The input of the step that was dispatched last.
fn dispatched(run: &Driver) -> Value {
    let input = run.out.all.iter().find_map(|effect| {
        if let Effect::Dispatch { input, .. } = effect { Some(input) } else { None }
    });
    serde_json::from_str(
        input.unwrap_or_else(|| panic!("nothing dispatched: {}", run.failure())).get(),
    )
    .unwrap()
}

/// Every step's input, by the step.
fn all(input: &Value) -> Vec<Value> {
    let mut run = Driver::start::<Workflow>(&input.to_string());
    let mut inputs = vec![dispatched(&run)];
    for step in ["texts", "numbers", "truths", "lists"] {
        run.complete(step, "null").unwrap();
        inputs.push(dispatched(&run));
    }
    run.complete("times", r#"{"whatever": "is ignored"}"#).unwrap();
    assert_eq!(run.output().as_deref(), Some(r#"{"price":5.0,"colour":"red"}"#));
    inputs
}

#[test]
fn texts_are_joined_converted_and_defaulted() {
    let texts = &all(&input())[0];
    for (field, expected) in [
        ("plain", "a { plain } \"text\" with \\ and ünicode"),
        ("inside", "text abc, 3, 2.5, true, 2026-08-21T14:25:36Z, 1h30m, red!"),
        ("joined", "abc-bc-3"),
        ("upper", "ABCBC"),
        ("list", "abc, b, c"),
        ("numbers", "1.5 3"),
        ("default", "nothing"),
        ("second", "bc"),
        ("third", "ABC"),
        ("first", "abc"),
        ("last", "c"),
        ("hole", "hole"),
        ("note_or", "none"),
        ("chosen", "abc"),
        ("region", "eu"),
        ("id", "0198c"),
        ("request", "r1"),
        ("literal", "${not.an.expression}"),
        ("word", "red"),
    ] {
        assert_eq!(texts[field], expected, "{field}");
    }
    for absent in ["optional", "spare", "note"] {
        assert!(texts.get(absent).is_none(), "{absent} is absent, not null: {texts}");
    }
}

#[test]
fn numbers_are_computed() {
    let numbers = &all(&input())[1];
    let expected = json!({
        "sum": 8, "product": 9, "quotient": 1, "remainder": 1, "price": 4.5, "half": 0.25, "negative": -2.5, "mixed": 7.5, "truncated": 2,
        "parsed": -1, "parsed_number": 0.5, "literal": 12.0, "large": 3_000_000_000_u64, "size": 7, "total": 13, "total_price": 12.0,
        "least": 1, "most": 3.0, "few": 7, "few_or": 1, "entry": 5, "wide": 3.0,
    });
    assert_eq!(numbers, &expected);
}

#[test]
fn conditions_hold_or_do_not() {
    let truths = &all(&input())[2];
    let expected_false =
        ["not", "present", "there", "sure", "noted", "shade", "least", "spare", "order", "sized"];
    for (field, holds) in truths.as_object().unwrap() {
        let expected = match field.as_str() {
            // 10 / 4 > 1, 10 / 1 > 1, 10 / 2 > 1.
            "failing_all" => true,
            // `raw` against itself, `line` against itself.
            "raw" | "same" => true,
            other => !expected_false.contains(&other),
        };
        assert_eq!(holds, &json!(expected), "{field}");
    }
}

#[test]
fn lists_maps_and_records_are_made_and_made_to_fit() {
    let lists = &all(&input())[3];
    for (field, expected) in [
        ("sizes", json!([4, 1, 2, 1, 2])),
        ("literals", json!([1.0, 2.5, 2.5])),
        ("words", json!(["abc"])),
        ("small", json!([1, 2])),
        ("halves", json!([2.0, 0.5, 1.0])),
        ("even", json!([4, 2])),
        ("skus", json!(["s1", "s2"])),
        ("dear", json!(["s2"])),
        ("fixed", json!(["x", "x", "x"])),
        ("nested", json!([[4], [5, 6]])),
        ("widened", json!([4.0, 1.0, 2.0])),
        ("optional", json!(["abc", "b", "c"])),
        ("empty", json!([])),
        ("shorts", json!([{"sku": "s1", "price": 1.5}, {"sku": "s2", "price": 9.0}])),
        ("notes", json!([null, "n"])),
        ("map", json!({"a": 1, "b": 3})),
        ("none", json!({})),
        (
            "raw",
            json!({"list": [1, "two", true], "text": "abc", "inner": {"line": input()["line"]}}),
        ),
        ("passed", json!({"a": 1, "b": [1, 2.5]})),
        ("record", json!({"sku": "abc", "price": 2.5})),
        ("widened_map", json!({"a": 5.0})),
        ("json_list", json!(["abc", "b", "c"])),
        ("wide", json!("red")),
        ("wides", json!(["red", "blue"])),
        ("short", json!({"sku": "s1", "price": 1.5})),
        ("holes", json!([null, "x"])),
    ] {
        assert_eq!(lists[field], expected, "{field}");
    }
    assert!(
        lists.get("rest").is_none()
            && lists.get("maybe_wide").is_none()
            && lists.get("maybe_short").is_none()
    );
}

#[test]
fn times_are_computed_from_the_events_own_time() {
    let times = &all(&input())[4];
    for (field, expected) in [
        ("due", "2026-08-21T15:55:36Z"),
        ("earlier", "2026-08-21T12:55:36Z"),
        ("spans", "2h59m59s500ms"),
        ("fixed", "2026-08-21T14:25:36.5Z"),
        ("parsed", "2026-08-21T14:25:36Z"),
        ("parsed_span", "1d"),
        ("first", "2026-01-01T00:00:00Z"),
        ("later", "2026-08-21T14:25:36Z"),
        ("later_or", "2026-08-21T15:55:36Z"),
        ("now", "1970-01-01T00:00:01Z"),
        ("text", "2026-08-21T14:25:36Z/1h30m"),
    ] {
        assert_eq!(times[field], expected, "{field}");
    }
}

#[test]
fn what_cannot_be_computed_is_the_failure_of_its_step() {
    let mut input = input();
    input["count"] = json!(i64::MAX);
    let mut run = Driver::start::<Workflow>(&input.to_string());
    run.complete("texts", "{}").unwrap();
    assert_eq!(run.phase(), Phase::Failed, "nothing to undo, so it has ended");
    assert!(
        run.failure().starts_with("ExpressionError: 2 * 9223372036854775807"),
        "{}",
        run.failure()
    );
}
