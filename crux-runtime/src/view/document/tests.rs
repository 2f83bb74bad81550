//! Documents from rows written by hand.

use serde_json::{Value, json};

use super::*;
use crate::journal::Row;
use crate::store::{Status, Stored};

mod skipped;

pub(crate) fn instance() -> InstanceId {
    InstanceId([7; 16])
}

pub(crate) fn stored(seq: u32, row: &str) -> Stored {
    Stored { seq, settled: 0, row: row.into() }
}

/// Two steps, a loop with a step in it, and a wait.
pub(crate) fn shape() -> Shape {
    let document = json!({
        "hooks": {"on_start": "workflow.start", "on_complete": "", "on_failure": ""},
        "steps": [
            {"id": "first", "type": "send_notification", "class": "NotificationStep", "steps": []},
            {"id": "second", "type": "seo_generation", "class": "", "steps": []},
            {"id": "ship", "type": "each", "class": "", "steps": [
                {"id": "label", "type": "print_label", "class": "", "steps": []},
            ]},
            {"id": "approval", "type": "wait", "class": "", "steps": []},
        ],
    });
    Shape::new(&document.to_string(), None).unwrap()
}

const STARTED: &str = r#"{"type":"started","started":{"workflow":"booking","version":3,"definition":"abc","input":{"orderId":"ORD-1","big":12345678901234567890},"request_id":"req-1","trigger":"cli"}}"#;

fn row(at: i64, events: &str, out: &str) -> String {
    format!(r#"{{"v":1,"at":{at},"events":[{events}],"out":[{out}]}}"#)
}

fn started() -> String {
    row(1_764_000_000_000, STARTED, r#"{"type":"step_started","path":"first","attempt":1}"#)
}

fn fold(rows: &[String]) -> Fold {
    let mut fold = Fold::default();
    for (n, text) in rows.iter().enumerate() {
        fold.row(u32::try_from(n).unwrap() + 1, Row::parse(text).unwrap());
    }
    fold
}

fn shown(rows: &[String]) -> Value {
    let (shape, fold) = (shape(), fold(rows));
    serde_json::to_value(document(instance(), &shape, &fold, &Undelivered::default())).unwrap()
}

#[test]
fn the_workflow_instance_has_every_field_and_absent_ones_are_empty_texts() {
    let document = shown(&[started()]);
    let id = |path: &str| instance().step(path).prefixed();
    assert_eq!(
        document["definition"]["hooks"],
        json!({"on_start": "workflow.start", "on_complete": "", "on_failure": ""})
    );
    let steps = document["definition"]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 4);
    assert_eq!(steps[0]["step_instance_id"], id("first"));
    assert_eq!(
        steps[0]["definition"],
        json!({"class": "NotificationStep", "type": "send_notification", "steps": []})
    );
    assert_eq!(steps[1]["definition"]["class"], "");
    assert_eq!(
        document["metadata"],
        json!({"start_time": "2025-11-24T16:00:00.000Z", "end_time": "", "status": "processing", "current_step": id("first")})
    );
    assert_eq!(document["data"]["workflow_instance_id"], instance().prefixed());
    assert_eq!(document["data"]["request_id"], "req-1");
    assert_eq!(document["data"]["payload"]["orderId"], "ORD-1");
    assert_eq!((&document["output"], &document["error"]), (&json!(""), &json!("")));
}

#[test]
fn the_payload_is_shown_as_it_was_recorded() {
    let (shape, fold) = (shape(), fold(&[started()]));
    let text = serde_json::to_string(&document(instance(), &shape, &fold, &Undelivered::default()))
        .unwrap();
    assert!(text.contains("12345678901234567890"), "a large number lost digits: {text}");
}

#[test]
fn a_step_shows_its_attempts_its_error_and_when_it_is_tried_again() {
    let failed = row(
        1_764_000_001_000,
        r#"{"type":"step_failed","path":"first","attempt":1,"error":{"name":"Timeout","message":"too slow"},"next":1764000005000}"#,
        "",
    );
    let document = shown(&[started(), failed]);
    let step = &document["definition"]["steps"][0];
    assert_eq!(
        (&step["state"], &step["attempts"], &step["error"]),
        (&json!("retrying"), &json!(1), &json!("Timeout: too slow"))
    );
    assert_eq!(document["current_steps"][0]["waits_for"], "attempt 2 at 2025-11-24T16:00:05.000Z");
    assert_eq!(document["metadata"]["status"], "processing");
}

#[test]
fn an_undelivered_task_says_why() {
    let (shape, fold) = (shape(), fold(&[started()]));
    let undelivered = Undelivered {
        blocked: None,
        tasks: vec![("first".to_owned(), "no service listens on step.x".to_owned())],
        messages: vec![("workflow.start".to_owned(), "nobody there".to_owned())],
    };
    let document = serde_json::to_value(document(instance(), &shape, &fold, &undelivered)).unwrap();
    assert_eq!(
        document["undelivered"],
        json!([{"routing_key": "workflow.start", "problem": "nobody there"}])
    );
    assert_eq!(
        document["current_steps"][0]["waits_for"],
        "its delivery: no service listens on step.x"
    );
}

fn complete(path: &str, out: &str) -> String {
    row(
        1_764_000_002_000,
        &format!(
            r#"{{"type":"step_completed","path":"{path}","attempt":1,"result":{{"of":"{path}"}}}}"#
        ),
        out,
    )
}

#[test]
fn a_wait_is_waiting_and_its_event_becomes_its_output() {
    let wait =
        r#"{"type":"step_waiting","path":"approval","event":"booking.reviewed","value":"ORD-1"}"#;
    let mut rows = vec![started(), complete("first", wait)];
    let document = shown(&rows);
    assert_eq!(document["metadata"]["status"], "waiting");
    assert_eq!(document["metadata"]["current_step"], instance().step("approval").prefixed());
    assert_eq!(
        document["current_steps"][0]["waits_for"],
        "the event booking.reviewed with `ORD-1`"
    );
    assert_eq!(document["definition"]["steps"][0]["output"], json!({"of": "first"}));
    let event =
        r#"{"type":"event_received","path":"approval","event_id":"e1","data":{"approved":true}}"#;
    let done = r#"{"type":"step_done","path":"approval"},{"type":"workflow_completed","output":{"ok":true}}"#;
    rows.push(row(1_764_000_003_000, event, done));
    let document = shown(&rows);
    assert_eq!(document["definition"]["steps"][3]["state"], "completed");
    assert_eq!(document["definition"]["steps"][3]["output"], json!({"approved": true}));
    assert_eq!(
        document["metadata"],
        json!({"start_time": "2025-11-24T16:00:00.000Z", "end_time": "2025-11-24T16:00:03.000Z", "status": "completed", "current_step": ""})
    );
    assert_eq!(
        (&document["output"], &document["current_steps"]),
        (&json!({"ok": true}), &json!([]))
    );
}

#[test]
fn steps_in_a_loop_are_listed_by_element() {
    let two = r#"{"type":"step_started","path":"ship[0]/label","attempt":1},{"type":"step_started","path":"ship[1]/label","attempt":1}"#;
    let document = shown(&[started(), complete("first", two), complete("ship[1]/label", "")]);
    let ship = &document["definition"]["steps"][2];
    assert_eq!((&ship["state"], &ship["attempts"]), (&json!("processing"), &json!(0)));
    let label = &ship["definition"]["steps"][0];
    assert_eq!((&label["step_instance_id"], &label["state"]), (&json!(""), &json!("processing")));
    let instances = label["instances"].as_array().unwrap();
    assert_eq!(
        (instances.len(), &instances[0]["path"], &instances[1]["state"]),
        (2, &json!("ship[0]/label"), &json!("completed"))
    );
    assert_eq!(instances[1]["step_instance_id"], instance().step("ship[1]/label").prefixed());
    assert_eq!(
        document["current_steps"].as_array().unwrap().len(),
        1,
        "{}",
        document["current_steps"]
    );
}

#[test]
fn what_was_open_when_the_instance_ended_is_cancelled() {
    let stop = r#"{"type":"stop_requested","cause":"cancelled","reason":"no longer wanted"}"#;
    let end = r#"{"type":"workflow_cancelled","error":{"name":"Cancelled","message":"no longer wanted"}}"#;
    let document = shown(&[started(), row(1_764_000_001_000, stop, end)]);
    assert_eq!(document["metadata"]["status"], "cancelled");
    assert_eq!(document["error"], "Cancelled: no longer wanted");
    assert_eq!(document["definition"]["steps"][0]["state"], "cancelled");
    assert_eq!(document["current_steps"], json!([]));
}

#[test]
fn the_steps_of_a_catch_are_open_though_their_step_has_failed() {
    let failed = r#"{"type":"step_failed","path":"second","attempt":1,"error":{"name":"Error","message":"x"}}"#;
    let caught = r#"{"type":"step_started","path":"second/tell","attempt":1}"#;
    let begun = complete("first", r#"{"type":"step_started","path":"second","attempt":1}"#);
    let document = shown(&[started(), begun, row(1_764_000_003_000, failed, caught)]);
    assert_eq!(document["definition"]["steps"][1]["state"], "failed");
    assert_eq!(document["current_steps"][0]["path"], "second/tell");
    assert_eq!(document["undo"][0]["state"], "processing");
}

#[test]
fn undo_steps_stand_beside_the_definition() {
    let failed = r#"{"type":"step_failed","path":"second","attempt":1,"error":{"name":"Error","message":"x"}}"#;
    let undoing = r#"{"type":"workflow_stopping","error":{"name":"Error","message":"x"}},{"type":"workflow_undoing"},{"type":"step_started","path":"first/undo","attempt":1}"#;
    let begun = complete("first", r#"{"type":"step_started","path":"second","attempt":1}"#);
    let mut rows = vec![started(), begun, row(1_764_000_003_000, failed, undoing)];
    let document = shown(&rows);
    assert_eq!(document["metadata"]["status"], "undoing");
    assert_eq!(document["undo"][0]["path"], "first/undo");
    assert_eq!(document["definition"]["steps"][0]["state"], "completed");
    assert_eq!(document["current_steps"][0]["path"], "first/undo");
    rows.push(complete(
        "first/undo",
        r#"{"type":"workflow_failed","error":{"name":"Error","message":"x"}}"#,
    ));
    assert_eq!(shown(&rows)["metadata"]["status"], "failed");
}

#[test]
fn a_parked_instance_waits_for_a_person() {
    let failed = r#"{"type":"step_failed","path":"first","attempt":1,"error":{"name":"Error","message":"x"}}"#;
    let parked = r#"{"type":"workflow_parked","error":{"name":"Error","message":"x"}}"#;
    let mut rows = vec![started(), row(1_764_000_001_000, failed, parked)];
    let document = shown(&rows);
    assert_eq!(
        (&document["metadata"]["status"], &document["error"]),
        (&json!("parked"), &json!("x"))
    );
    assert_eq!(document["current_steps"][0]["waits_for"], "a person: retry, undo or fail");
    let again = r#"{"type":"workflow_resumed"},{"type":"step_started","path":"first","attempt":2}"#;
    rows.push(row(1_764_000_002_000, r#"{"type":"retry_requested"}"#, again));
    let document = shown(&rows);
    assert_eq!(
        (&document["metadata"]["status"], &document["error"]),
        (&json!("processing"), &json!(""))
    );
    assert_eq!(document["definition"]["steps"][0]["attempts"], 2);
}

#[test]
fn paused_and_resumed() {
    let mut rows =
        vec![started(), row(1, r#"{"type":"pause_requested"}"#, r#"{"type":"workflow_paused"}"#)];
    assert_eq!(fold(&rows).status(), Status::Paused);
    rows.push(row(2, r#"{"type":"resume_requested"}"#, r#"{"type":"workflow_resumed"}"#));
    assert_eq!(fold(&rows).status(), Status::Processing);
}

#[test]
fn a_loop_between_two_rounds_waits() {
    let asked = r#"{"type":"step_started","path":"poll#1/ask","attempt":1}"#;
    let pause = r#"{"type":"step_waiting","path":"poll","until":1764000009000}"#;
    let mut rows = vec![started(), complete("first", asked), complete("poll#1/ask", pause)];
    assert_eq!(fold(&rows).status(), Status::Waiting);
    rows.push(row(
        1_764_000_009_000,
        r#"{"type":"timer_fired","path":"poll","timer":"sleep"}"#,
        &asked.replace("#1", "#2"),
    ));
    let fold = fold(&rows);
    assert_eq!(fold.status(), Status::Processing);
    assert_eq!(fold.step("poll").map(|step| step.state), Some(StepState::Processing));
}
