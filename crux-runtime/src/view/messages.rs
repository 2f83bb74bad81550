//! Live messages: what followers of an instance receive. Each entry of a journal row becomes one
//! message `{type, workflow_id, seq, n, last, time, data}`; `seq` is the row's number, `n` the
//! message's place in it from 0, `last` whether it is the row's last one. A client that has seen
//! `last` of a row can resume after it and misses nothing.

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::id::InstanceId;
use crate::journal;
use crate::journal::{Entry, EntryType, Row};
use crate::live::LiveRow;
use crate::machine::{Cause, Outcome, Time, Timer};
use crate::store::{Seq, Stored};
use crate::view::document::Shape;

/// A row's messages, encoded.
#[derive(Debug)]
pub struct Encoded {
    pub messages: Vec<Utf8Bytes>,
    pub lifecycle: Lifecycle,
}

/// What a row says of the instance's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    Unchanged,
    Ended,
    /// It goes on after an end.
    Resumed,
}

#[derive(Serialize)]
struct Message<'a> {
    r#type: &'a str,
    workflow_id: &'a str,
    seq: Seq,
    n: usize,
    last: bool,
    time: String,
    data: Data<'a>,
}

/// Which fields are there depends on the message's type.
#[derive(Default, Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    step_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timer: Option<Timer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// A live row's messages: encoded once, for all who follow. The error: this binary cannot read the
/// row.
pub(crate) fn of_row<'r>(
    instance: InstanceId,
    shape: &Shape,
    row: &'r LiveRow,
) -> Result<&'r Encoded, String> {
    let encoded =
        row.memo(|stored| encode(instance, shape, stored).map_err(|error| error.to_string()));
    encoded.ok_or("the row was read as something else")?.as_ref().map_err(Clone::clone)
}

/// The messages of one row.
pub fn encode(
    instance: InstanceId,
    shape: &Shape,
    stored: &Stored,
) -> Result<Encoded, journal::Error> {
    let mut row = Row::parse(&stored.row)?;
    shape.secrets.hide(&mut row);
    let workflow_id = instance.to_string();
    let time = row.at.to_string();
    let count = row.events.len() + row.out.len();
    let mut lifecycle = Lifecycle::Unchanged;
    let mut messages = Vec::with_capacity(count);
    for (n, entry) in row.events.iter().chain(&row.out).enumerate() {
        match entry.kind {
            EntryType::WorkflowCompleted
            | EntryType::WorkflowFailed
            | EntryType::WorkflowCancelled => lifecycle = Lifecycle::Ended,
            EntryType::WorkflowResumed => lifecycle = Lifecycle::Resumed,
            _ => {}
        }
        let message = Message {
            r#type: type_of(entry),
            workflow_id: &workflow_id,
            seq: stored.seq,
            n,
            last: n + 1 == count,
            time: time.clone(),
            data: data_of(instance, shape, entry),
        };
        messages.push(serde_json::to_string(&message)?.into());
    }
    Ok(Encoded { messages, lifecycle })
}

/// Names of the journal, except where clients know another, or where the journal uses one name for
/// two things.
fn type_of(entry: &Entry) -> &'static str {
    match entry.kind {
        EntryType::Started => "workflow_started",
        EntryType::StepBegan => "step_started",
        EntryType::StepCompleted | EntryType::StepDone => "step_completed",
        // The step goes on.
        EntryType::StepFailed if entry.next.is_some() => "attempt_failed",
        EntryType::StepFailed => "step_failed",
        EntryType::TaskLost => "attempt_lost",
        EntryType::TaskReturned => "attempt_returned",
        EntryType::TimerFired => "timer_fired",
        EntryType::EventReceived => "event_received",
        EntryType::StopRequested => "stop_requested",
        EntryType::PauseRequested => "pause_requested",
        EntryType::ResumeRequested => "resume_requested",
        EntryType::RetryRequested => "retry_requested",
        EntryType::UndoRequested => "undo_requested",
        EntryType::FailRequested => "fail_requested",
        EntryType::ParkRequested => "park_requested",
        EntryType::StepStarted => "step_dispatched",
        EntryType::StepWaiting => "step_waiting",
        EntryType::StepSkipped => "step_skipped",
        EntryType::WorkflowStopping => "workflow_stopping",
        EntryType::WorkflowUndoing => "workflow_undoing",
        EntryType::WorkflowParked => "workflow_parked",
        EntryType::WorkflowPaused => "workflow_paused",
        EntryType::WorkflowResumed => "workflow_resumed",
        EntryType::WorkflowCompleted => "workflow_completed",
        EntryType::WorkflowFailed => "workflow_failed",
        EntryType::WorkflowCancelled => "workflow_cancelled",
    }
}

fn data_of<'a>(instance: InstanceId, shape: &'a Shape, entry: &'a Entry) -> Data<'a> {
    let text = |time: &Time| time.to_string();
    let path = entry.path.as_deref();
    let mut data = Data {
        step_id: path.map(|path| instance.step(path).to_string()),
        step_type: path.map(|path| shape.step_type(path)),
        path,
        attempt: entry.attempt,
        result: entry.result.as_deref(),
        output: entry.output.as_deref(),
        error: entry.error.as_ref().map(ToString::to_string),
        error_name: entry.error.as_ref().map(|failure| failure.name.as_ref()),
        outcome: entry.outcome,
        next_attempt_at: entry.next.as_ref().map(text),
        timer: entry.timer,
        event: entry.event.as_deref(),
        event_id: entry.event_id.as_deref(),
        event_data: entry.data.as_deref(),
        value: entry.value.as_deref(),
        until: entry.until.as_ref().map(text),
        cause: entry.cause,
        reason: entry.reason.as_deref(),
        ..Data::default()
    };
    if let Some(started) = &entry.started {
        data.workflow = Some(&started.workflow);
        data.version = Some(started.version);
        data.request_id = Some(&started.request_id);
        data.trigger = Some(&started.trigger);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::document::tests::{instance, shape, stored};

    fn read(row: &Stored) -> (Vec<serde_json::Value>, Lifecycle) {
        let encoded = encode(instance(), &shape(), row).unwrap();
        (
            encoded
                .messages
                .iter()
                .map(|text| serde_json::from_str(text.as_str()).unwrap())
                .collect(),
            encoded.lifecycle,
        )
    }

    #[test]
    fn a_completed_step_names_its_id_as_bare_text_and_the_row_ends_with_last() {
        let row = stored(
            2,
            r#"{"v":1,"at":1764000000250,"events":[{"type":"step_completed","path":"first","attempt":1,"result":{"a":1}}],"out":[{"type":"step_started","path":"second","attempt":1}]}"#,
        );
        let (messages, lifecycle) = read(&row);
        let id = instance().step("first").to_string();
        assert_eq!(lifecycle, Lifecycle::Unchanged);
        assert_eq!(
            messages[0],
            serde_json::json!({
                "type": "step_completed", "workflow_id": instance().to_string(), "seq": 2, "n": 0, "last": false,
                "time": "2025-11-24T16:00:00.250Z",
                "data": {"step_id": id, "step_type": "send_notification", "path": "first", "attempt": 1, "result": {"a": 1}},
            })
        );
        assert_eq!(
            (&messages[1]["type"], &messages[1]["n"], &messages[1]["last"]),
            (&"step_dispatched".into(), &1.into(), &true.into())
        );
    }

    #[test]
    fn a_failed_workflow_has_its_error_as_text() {
        let row = stored(
            3,
            r#"{"v":1,"at":1,"events":[],"out":[{"type":"workflow_failed","error":{"name":"OutOfStock","message":"none left"}}]}"#,
        );
        let (messages, lifecycle) = read(&row);
        assert_eq!(lifecycle, Lifecycle::Ended);
        assert_eq!(
            messages[0]["data"],
            serde_json::json!({"error": "OutOfStock: none left", "error_name": "OutOfStock"})
        );
    }

    #[test]
    fn a_failed_attempt_is_distinguished_from_a_failed_step() {
        let attempt = r#"{"v":1,"at":1,"events":[{"type":"step_failed","path":"first","attempt":1,"error":{"name":"Error","message":"x"},"next":2000}]}"#;
        let (messages, _) = read(&stored(2, attempt));
        assert_eq!(messages[0]["type"], "attempt_failed");
        assert_eq!(messages[0]["data"]["next_attempt_at"], "1970-01-01T00:00:02.000Z");
        let step = r#"{"v":1,"at":1,"events":[{"type":"step_failed","path":"first","attempt":2,"error":{"name":"Error","message":"x"}}]}"#;
        assert_eq!(read(&stored(3, step)).0[0]["type"], "step_failed");
    }

    #[test]
    fn rows_of_a_newer_version_are_refused_and_not_guessed_at() {
        assert!(encode(instance(), &shape(), &stored(1, r#"{"v":2,"at":1,"events":[]}"#)).is_err());
    }
}
