//! Elements of every type: as text, as keys, as what a wait looks for; and elements that may be
//! absent.

use crate::pipelines::elements::{DEFINITION, Workflow};
use crate::pipelines::{empty_branches, steps, types};
use crux_runtime::machine::{Effect, Phase, RawValue};
use serde_json::{Value, json};

use crate::driver::{Driver, raw};

fn input() -> Value {
    json!({
        "id": "i", "count": 3, "flag": true, "maybe": "m", "at": "2026-01-02T03:04:05Z", "span": "1m30s", "colour": "red",
        "counts": [2], "prices": [2.5], "flags": [false], "times": ["2026-01-02T03:04:05.5Z"], "spans": ["1h30m"], "colours": ["blue"],
        "gaps": [3, null], "holes": ["m", null],
    })
}

/// Key and input of what was dispatched last.
fn dispatched(run: &Driver) -> (Option<String>, Value) {
    let last = run.out.all.iter().find_map(|effect| match effect {
        Effect::Dispatch { input, key, .. } => {
            Some((key.as_deref().map(str::to_owned), serde_json::from_str(input.get()).unwrap()))
        }
        _ => None,
    });
    last.unwrap_or_else(|| panic!("nothing dispatched: {} {:?}", run.failure(), run.open()))
}

fn key(key: &str) -> Option<String> {
    Some(key.to_owned())
}

fn receive(run: &mut Driver, path: &str, data: &str) {
    let what = crux_runtime::machine::StepHappened::Received {
        event_id: data.to_owned(),
        data: raw(data),
    };
    run.step(path, what).unwrap();
}

#[test]
fn elements_of_every_type_are_texts_keys_and_what_a_wait_looks_for() {
    let mut run = Driver::start::<Workflow>(&input().to_string());
    let texts = json!({"a": "2", "b": "-1", "c": "true", "d": "false", "e": "2 of -1 is false or true", "f": "5"});
    assert_eq!(dispatched(&run), (key("2"), texts));
    run.complete("counts[0]/count", "null").unwrap();
    assert_eq!(run.open(), ["counts[0]/counted waits for counted 2"]);
    receive(&mut run, "counts[0]/counted", r#"{"n":2}"#);
    assert_eq!(
        dispatched(&run),
        (
            key("false"),
            json!({"a": "2.5", "b": "false", "c": "true", "d": "", "e": "", "f": "true"})
        )
    );
    run.complete("others[0]/every_flag[0]/flags", "null").unwrap();
    let time = "2026-01-02T03:04:05.5Z";
    assert_eq!(
        dispatched(&run),
        (
            key(time),
            json!({"a": time, "b": format!("at {time}"), "c": "", "d": "", "e": "", "f": ""})
        )
    );
    run.complete("others[0]/every_time[0]/times", "null").unwrap();
    assert_eq!(run.open(), ["others[0]/every_time[0]/seen waits for seen i"]);
    receive(
        &mut run,
        "others[0]/every_time[0]/seen",
        &json!({"id": "i", "at": time, "span": "1s", "flag": true}).to_string(),
    );
    assert_eq!(
        dispatched(&run),
        (None, json!({"a": "1h30m", "b": "in 1h30m", "c": "", "d": "", "e": "", "f": ""}))
    );
    run.complete("others[0]/every_span[0]/spans", "null").unwrap();
    assert_eq!(
        dispatched(&run),
        (key("blue"), json!({"a": "blue", "b": "false", "c": "a blue", "d": "", "e": "", "f": ""}))
    );
    run.complete("others[0]/every_colour[0]/colours", "null").unwrap();
    assert_eq!(run.open(), ["others[0]/every_colour[0]/coloured waits for coloured blue"]);
    receive(&mut run, "others[0]/every_colour[0]/coloured", r#"{"colour":"blue"}"#);

    let there =
        json!({"or": 3, "is_there": true, "is_three": true, "more": 4, "same": 3, "text": "false"});
    assert_eq!(dispatched(&run).1, there);
    run.complete("gaps[0]/each_gap", "null").unwrap();
    let absent = json!({"or": 3, "is_there": false, "is_three": false, "more": 1, "text": "true"});
    assert_eq!(dispatched(&run).1, absent);
    run.complete("gaps[1]/each_gap", "null").unwrap();
    let there = json!({"or": 1, "is_there": true, "is_three": false, "more": 1, "text": "none", "hole": "m"});
    assert_eq!(dispatched(&run).1, there);
    run.complete("holes[0]/each_hole", "null").unwrap();
    let absent = json!({"or": 0, "is_there": false, "is_three": false, "more": 1, "text": "none"});
    assert_eq!(dispatched(&run).1, absent);
    run.complete("holes[1]/each_hole", "null").unwrap();
    assert_eq!(run.open(), ["constant waits for counted -1"]);
    receive(&mut run, "constant", r#"{"n":-1}"#);
    assert_eq!(run.output().as_deref(), Some(r#"{"gaps":[3,null],"holes":["m","none"]}"#));
}

#[test]
fn a_trigger_of_nothing_but_literals_makes_the_input() {
    let sampled: Box<RawValue> = raw(r#"{"id":"s1"}"#);
    let arrived = (DEFINITION.triggers[0].input)(&sampled).expect("it starts an instance");
    assert_eq!(arrived.key.as_deref(), Some("constant"));
    let by_http =
        (DEFINITION.triggers[1].input)(&raw(&input().to_string())).expect("it starts an instance");
    assert_eq!(by_http.key.as_deref(), Some("constant"));
    let input: Value = serde_json::from_str(arrived.input.get()).unwrap();
    assert_eq!((&input["counts"], &input["gaps"]), (&json!([1, -2]), &json!([null, 1])));
}

#[test]
fn branches_without_steps_or_without_an_end_do_no_harm() {
    let mut run = Driver::start::<empty_branches::Workflow>(r#"{"a":1,"words":["x"]}"#);
    run.fail("start", 1, "Broken").unwrap();
    assert_eq!(run.phase(), Phase::Completed);
}

/// They clash with nothing: an enum's name stands before them.
#[test]
fn words_and_errors_are_called_as_they_are_written() {
    let error = steps::r#fn::Error::Refused("no".into());
    assert!(matches!(error, steps::r#fn::Error::Refused(_)));
    let words =
        [types::Ticket::Open, types::Ticket::Closed, types::Ticket::Task, types::Ticket::Ok];
    assert_eq!(words.map(types::Ticket::word), ["open", "closed", "task", "ok"]);
    assert!(types::Task { ticket: types::Ticket::Open, kind: None }.kind.is_none());
}
