//! What completed inside a step that fails is there in its `catch` and after it.

use crate::pipelines::handled;
use crate::pipelines::rescue::Workflow;
use crux_runtime::machine::{Phase, StepHappened};
use serde_json::{Value, json};

use crate::driver::{Driver, raw};

fn text(text: &str) -> String {
    json!({ "text": text }).to_string()
}

fn started() -> Driver {
    Driver::start::<Workflow>(r#"{"codes":["x","y"]}"#)
}

/// From the rounds on, everything fails, after what the test wants to see again.
fn to_the_end(run: &mut Driver) -> Value {
    run.complete("rounds#1/asked", &text("again")).unwrap();
    run.complete("rounds#1/told", &text("first round")).unwrap();
    run.complete("rounds#2/asked", &text("skip")).unwrap();
    // Two rounds are all there are.
    assert_eq!(
        run.effects(),
        [r#"dispatch rounds/all[0]/remembered #1 {"first":"skip","error":"x: RepeatExhausted"}"#]
    );
    run.complete("rounds/all[0]/remembered", &text("")).unwrap();
    assert_eq!(
        run.effects(),
        [r#"dispatch rounds/all[1]/remembered #1 {"first":"skip","error":"y: RepeatExhausted"}"#]
    );
    run.complete("rounds/all[1]/remembered", &text("")).unwrap();

    run.complete("with_steps", &text("own result")).unwrap();
    run.complete("with_steps/codes[0]/coded", &text("X")).unwrap();
    run.complete("with_steps/codes[1]/coded", &text("Y")).unwrap();
    run.fail("with_steps/inner", 1, "Broken").unwrap();

    run.complete("every[1]/attempt/one", &text("y is done")).unwrap();
    run.fail("every[0]/attempt/one", 1, "Broken").unwrap();
    run.fail("every[1]/attempt/two", 1, "Broken").unwrap();
    assert_eq!(run.phase(), Phase::Completed, "{}", run.failure());
    serde_json::from_str(&run.output().expect("an output")).unwrap()
}

#[test]
fn results_of_completed_steps_outlive_the_failure_around_them() {
    let mut run = started();
    run.complete("group/first", &text("1")).unwrap();
    run.complete("group/branches/right", &text("r")).unwrap();
    run.complete("group/branches/left", &text("l")).unwrap();
    run.fail("group/branches/never", 1, "Broken").unwrap();
    assert_eq!(
        run.effects(),
        [r#"dispatch group/noted #1 {"first":"1","second":"r","error":"Broken"}"#]
    );
    run.complete("group/noted", &text("n")).unwrap();
    assert_eq!(run.effects(), [r#"dispatch rounds#1/asked #1 {"text":"l"}"#]);
    let expected = json!({
        "first": "1", "right": "r", "noted": "n", "asked": "skip", "own": "own result", "codes": ["X", "Y"], "every": ["LOST", "y is done"],
    });
    assert_eq!(to_the_end(&mut run), expected, "`told` was skipped in the last round");
}

/// The document shows the result of such an attempt too.
#[test]
fn an_attempt_that_completes_while_its_siblings_failure_stops_it_is_kept() {
    let mut run = started();
    run.complete("group/first", &text("1")).unwrap();
    run.complete("group/branches/left", &text("l")).unwrap();
    run.fail("group/branches/never", 1, "Broken").unwrap();
    assert_eq!(run.open(), ["group/branches/right #1"], "it is waited for");
    let wrong = StepHappened::Completed { attempt: None, result: raw(r#"{"text":5}"#) };
    assert!(run.step("group/branches/right", wrong).is_err());
    run.complete("group/branches/right", &text("late")).unwrap();
    assert_eq!(
        run.effects(),
        [r#"dispatch group/noted #1 {"first":"1","second":"late","error":"Broken"}"#]
    );
}

#[test]
fn without_a_failure_everything_is_as_it_was() {
    let mut run = started();
    run.complete("group/first", &text("1")).unwrap();
    run.complete("group/branches/right", &text("r")).unwrap();
    run.complete("group/branches/left", &text("l")).unwrap();
    run.complete("group/branches/never", &text("")).unwrap();
    run.complete("group/last", &text("last")).unwrap();
    let output = to_the_end(&mut run);
    assert_eq!(
        (&output["first"], &output["right"], &output["last"]),
        (&json!("1"), &json!("r"), &json!("last"))
    );
    assert!(output.get("noted").is_none());
}

#[test]
fn what_the_catch_of_an_each_gave_outlives_the_failure_around_it() {
    let mut run = Driver::start::<handled::Workflow>(r#"{"codes":["x"]}"#);
    run.fail("outer/every[0]/one", 1, "Error").unwrap();
    run.complete("outer/every/fixed", &text("fixed")).unwrap();
    run.fail("outer/next", 1, "Error").unwrap();
    assert_eq!(run.effects(), [r#"dispatch outer/noted #1 {"text":"fixed"}"#]);
}
