//! What did not run: steps that were skipped, and failures that were caught.

use super::*;
use crate::machine::{
    Contract, Definition, EffectKind, Hooks as DefinitionHooks, Node, OnExhausted, Runs,
};

/// A switch of two cases, a step with a `catch` of two steps, and a last step.
fn branched() -> Shape {
    let step = |id: &str| json!({"id": id, "type": id, "class": "", "steps": []});
    let case =
        |id: &str, case: u32| json!({"id": id, "type": id, "class": "", "case": case, "steps": []});
    let document = json!({
        "steps": [
            {"id": "choose", "type": "switch", "class": "", "steps": [case("cheap", 0), case("dear", 1), case("wrapped", 1)]},
            {"id": "risky", "type": "risky", "class": "", "steps": [step("tell"), step("note")]},
            step("last"),
        ],
    });
    Shape::new(&document.to_string(), None).unwrap()
}

fn states(rows: &[String]) -> Vec<String> {
    let (shape, fold) = (branched(), fold(rows));
    let document =
        serde_json::to_value(document(instance(), &shape, &fold, &Undelivered::default())).unwrap();
    let mut states = Vec::new();
    gather(&document["definition"]["steps"], &mut states);
    states
}

fn gather(steps: &Value, states: &mut Vec<String>) {
    for step in steps.as_array().unwrap() {
        states.push(format!(
            "{} {}",
            step["path"].as_str().unwrap(),
            step["state"].as_str().unwrap()
        ));
        gather(&step["definition"]["steps"], states);
    }
}

fn begun(out: &str) -> String {
    row(1_764_000_000_000, STARTED, out)
}

const DEAR: &str = r#"{"type":"step_started","path":"choose/dear","attempt":1}"#;

#[test]
fn the_case_that_was_not_taken_is_skipped_immediately_and_what_comes_later_is_not() {
    assert_eq!(
        states(&[begun(DEAR)]),
        [
            "choose processing",
            "choose/cheap skipped",
            "choose/dear processing",
            "choose/wrapped pending",
            "risky pending",
            "risky/tell pending",
            "risky/note pending",
            "last pending"
        ]
    );
}

#[test]
fn what_stands_in_a_skipped_step_is_skipped_too() {
    let skipped = r#"{"type":"step_skipped","path":"choose"},{"type":"step_skipped","path":"risky"},{"type":"step_started","path":"last","attempt":1}"#;
    assert_eq!(
        states(&[begun(skipped)]),
        [
            "choose skipped",
            "choose/cheap skipped",
            "choose/dear skipped",
            "choose/wrapped skipped",
            "risky skipped",
            "risky/tell skipped",
            "risky/note skipped",
            "last processing"
        ]
    );
}

#[test]
fn the_steps_of_a_catch_are_skipped_when_they_are_not_needed_and_pending_while_it_runs() {
    let risky = r#"{"type":"step_skipped","path":"choose"},{"type":"step_started","path":"risky","attempt":1}"#;
    let last = r#"{"type":"step_started","path":"last","attempt":1}"#;
    let done = states(&[begun(risky), complete("risky", last)]);
    assert_eq!(
        done[4..],
        ["risky completed", "risky/tell skipped", "risky/note skipped", "last processing"]
    );
    let failed = r#"{"type":"step_failed","path":"risky","attempt":1,"error":{"name":"Error","message":"x"}}"#;
    let caught = row(
        1_764_000_001_000,
        failed,
        r#"{"type":"step_started","path":"risky/tell","attempt":1}"#,
    );
    let taken = states(&[begun(risky), caught]);
    assert_eq!(
        taken[4..],
        ["risky failed", "risky/tell processing", "risky/note pending", "last pending"]
    );
}

#[test]
fn after_a_stop_whatever_has_not_begun_is_skipped() {
    let stop = r#"{"type":"stop_requested","cause":"cancelled","reason":"no longer wanted"}"#;
    let stopping =
        r#"{"type":"workflow_stopping","error":{"name":"Cancelled","message":"no longer wanted"}}"#;
    let mut rows = vec![begun(DEAR), row(1_764_000_001_000, stop, stopping)];
    let expected = [
        "choose/dear processing",
        "choose/wrapped skipped",
        "risky skipped",
        "risky/tell skipped",
        "risky/note skipped",
    ];
    assert_eq!(states(&rows)[2..7], expected);
    rows.push(complete("choose/dear", r#"{"type":"workflow_cancelled","error":{"name":"Cancelled","message":"no longer wanted"}}"#));
    assert_eq!(states(&rows)[7], "last skipped");
    rows.push(row(
        1_764_000_003_000,
        r#"{"type":"retry_requested"}"#,
        r#"{"type":"workflow_resumed"}"#,
    ));
    assert_eq!(states(&rows)[7], "last pending");
}

static CONTRACT: Contract = Contract {
    step_type: "ask",
    runs: Runs::Service { routing_key: "step.ask" },
    effect: EffectKind::Idempotent,
    reports_started: false,
    payload: false,
    raises: &[],
    check_input: |_| Ok(()),
    check_result: |_| Ok(()),
    input_schema: "{}",
    output_schema: "{}",
};

/// Two tasks: the failure `Busy` of the first is caught, none of the second.
static CAREFUL: Definition = Definition {
    workflow: "careful",
    version: 1,
    retired: false,
    hash: "",
    policy_hash: "",
    source: "",
    description: "",
    nodes: &[
        Node::task("first", "first", 1, &CONTRACT).caught(&["Busy"]),
        Node::task("second", "second", 2, &CONTRACT),
    ],
    triggers: &[],
    hooks: DefinitionHooks { on_start: None, on_complete: None, on_failure: None },
    deadline_ms: None,
    on_exhausted: OnExhausted::Park,
    retain_ms: 0,
    config: &[],
    document: r#"{"steps":[{"id":"first","type":"ask"},{"id":"second","type":"ask"}]}"#,
    input_schema: "{}",
    output_schema: "{}",
};

#[test]
fn a_failure_that_an_empty_catch_took_waits_for_nothing() {
    let failed = |path: &str, name: &str| {
        format!(
            r#"{{"type":"step_failed","path":"{path}","attempt":1,"error":{{"name":"{name}","message":"x"}}}}"#
        )
    };
    let parked = r#"{"type":"workflow_parked","error":{"name":"Error","message":"x"}}"#;
    let waiting = |first: &str, last: String| {
        let second = r#"{"type":"step_started","path":"second","attempt":1}"#;
        let rows = [started(), row(1, &failed("first", first), second), last];
        let (shape, fold) = (Shape::new(CAREFUL.document, Some(&CAREFUL)).unwrap(), fold(&rows));
        let document =
            serde_json::to_value(document(instance(), &shape, &fold, &Undelivered::default()))
                .unwrap();
        let current = document["current_steps"].as_array().unwrap();
        current
            .iter()
            .map(|step| format!("{}: {}", step["path"], step["waits_for"]))
            .collect::<Vec<_>>()
    };
    let person = |path: &str| format!(r#""{path}": "a person: retry, undo or fail""#);
    assert_eq!(waiting("Busy", row(2, &failed("second", "Error"), parked)), [person("second")]);
    assert_eq!(
        waiting("Error", row(2, &failed("second", "Error"), parked)),
        [person("first"), person("second")]
    );
    // A full journal parks, and nothing has failed.
    assert!(
        waiting("Busy", row(2, r#"{"type":"park_requested"}"#, parked))[0]
            .starts_with(r#""second": "the result of attempt 1"#)
    );
}
