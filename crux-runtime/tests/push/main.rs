//! Services of every temper, from the start of an instance to its end: the engine on the memory
//! store, the local bus, and little HTTP servers. What an operator would see is asserted: how the
//! instance ended, with what, and which attempts it took.

#![allow(clippy::unwrap_used, reason = "what cannot be here is a failed test")]

mod server;
mod workflow;

use std::time::Duration;

use crux_runtime::engine::api::{Completion, CompletionOutcome, Progress, ProgressKind, StepRef};
use crux_runtime::store::Status;
use serde_json::value::RawValue;
use server::{Does, Server};
use workflow::Harness;

const DONE: &str = r#"{"success":true,"result":{"text":"done"}}"#;
const OUTPUT: &str = r#"{"text":"done"}"#;

fn ok(body: &str) -> Does {
    Does::answers(&server::http("200 OK", "", body))
}

#[tokio::test]
async fn a_service_that_answers_completes_its_step() {
    let server = Server::start(|_| ok(DONE)).await;
    let harness = Harness::start(&server.url()).await;
    let end = harness.end().await;
    assert_eq!((end.status, end.output.as_deref()), (Status::Completed, Some(OUTPUT)));
    assert_eq!(end.types(), ["started", "step_completed"]);
}

#[tokio::test]
async fn a_service_that_is_down_for_longer_than_the_time_out_uses_up_no_attempt() {
    let server = Server::reserve().await;
    let harness = Harness::start(&server.url()).await;
    tokio::time::sleep(workflow::RUN * 3).await;
    let undelivered = harness.engine.undelivered(harness.instance).await;
    assert_eq!(
        undelivered.tasks,
        [(
            "work".to_owned(),
            "service `far` cannot be reached: Connection refused (os error 111)".to_owned()
        )]
    );
    let server = server.open(|_| ok(DONE)).await;
    let end = harness.end().await;
    assert_eq!((end.status, end.output.as_deref()), (Status::Completed, Some(OUTPUT)));
    assert_eq!(end.types(), ["started", "step_completed"], "no attempt failed");
    assert_eq!(server.attempts(), [1]);
}

#[tokio::test]
async fn a_busy_service_is_asked_again_when_it_said_and_no_attempt_is_used_up() {
    let busy = server::http("503 Service Unavailable", "retry-after: 1\r\n", "");
    let server = Server::start(move |n| if n == 0 { Does::answers(&busy) } else { ok(DONE) }).await;
    let harness = Harness::start(&server.url()).await;
    let end = harness.end().await;
    assert_eq!(end.types(), ["started", "step_completed"]);
    assert_eq!(server.attempts(), [1, 1]);
}

#[tokio::test]
async fn a_slow_service_gets_a_second_attempt() {
    let server =
        Server::start(
            |n| if n == 0 { Does::sleeps(Duration::from_secs(60), "") } else { ok(DONE) },
        )
        .await;
    let harness = Harness::start(&server.url()).await;
    let end = harness.end().await;
    assert_eq!((end.status, end.output.as_deref()), (Status::Completed, Some(OUTPUT)));
    assert_eq!(end.types(), ["started", "step_failed", "timer_fired", "step_completed"]);
    assert!(end.rows[1].contains(r#""name":"Timeout""#), "{}", end.rows[1]);
    assert_eq!(server.attempts(), [1, 2]);
}

#[tokio::test]
async fn waiting_for_a_turn_at_a_busy_service_is_not_running() {
    let server =
        Server::start(|_| Does::sleeps(workflow::RUN / 4, &server::http("200 OK", "", DONE))).await;
    let harness = Harness::start(&server.url()).await;
    let mut harnesses = Vec::new();
    for _ in 0..workflow::CONCURRENCY * 6 {
        harnesses.push(harness.another().await);
    }
    for harness in harnesses {
        assert_eq!(harness.end().await.types(), ["started", "step_completed"]);
    }
}

#[tokio::test]
async fn an_answer_after_the_time_out_still_counts() {
    let late = server::http("200 OK", "", DONE);
    let server = Server::start(move |n| {
        Does::sleeps(if n == 0 { workflow::RUN * 3 / 2 } else { Duration::from_secs(60) }, &late)
    })
    .await;
    let harness = Harness::start(&server.url()).await;
    let end = harness.end().await;
    assert_eq!((end.status, end.output.as_deref()), (Status::Completed, Some(OUTPUT)));
    assert_eq!(end.types(), ["started", "step_failed", "timer_fired", "step_completed"]);
    assert_eq!(server.attempts(), [1, 2], "the second was running when the first one answered");
}

#[tokio::test]
async fn garbage_fails_the_step_immediately() {
    let server = Server::start(|_| ok("<html>")).await;
    let harness = Harness::start(&server.url()).await;
    let end = harness.end().await;
    assert_eq!(end.status, Status::Failed);
    assert_eq!(end.types()[..2], ["started", "step_failed"]);
    assert!(end.rows[1].contains(r#""name":"InvalidResult""#), "{}", end.rows[1]);
    assert_eq!(server.attempts(), [1]);
}

#[tokio::test]
async fn a_connection_that_closes_half_way_is_repaired_in_silence_a_few_times() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"success\"";
    let server =
        Server::start(move |n| if n < 2 { Does::answers_and_closes(half) } else { ok(DONE) }).await;
    let harness = Harness::start(&server.url()).await;
    let end = harness.end().await;
    assert_eq!((end.status, end.output.as_deref()), (Status::Completed, Some(OUTPUT)));
    assert_eq!(end.types(), ["started", "task_lost", "task_lost", "step_completed"]);
    assert_eq!(server.attempts(), [1, 1, 1], "it is the same attempt, under the same key");
}

#[tokio::test]
async fn a_service_that_always_dies_with_the_task_is_given_up() {
    let server = Server::start(|_| Does::answers_and_closes("")).await;
    let harness = Harness::start(&server.url()).await;
    let end = harness.end().await;
    assert_eq!(end.status, Status::Failed);
    // Three times in silence, then two more attempts by the step's own policy.
    assert_eq!(server.attempts(), [1, 1, 1, 1, 2, 3]);
    assert!(end.rows.last().is_some_and(|row| row.contains("WorkerLost")), "{:?}", end.rows);
}

#[tokio::test]
async fn a_client_error_is_not_tried_again() {
    let no = server::http("422 Unprocessable Content", "", r#"{"error":"no text"}"#);
    let server = Server::start(move |_| Does::answers(&no)).await;
    let harness = Harness::start(&server.url()).await;
    let end = harness.end().await;
    assert_eq!(end.status, Status::Failed);
    assert!(
        end.rows[1].contains(r#""name":"InvalidInput""#) && end.rows[1].contains("no text"),
        "{}",
        end.rows[1]
    );
    assert_eq!(server.attempts(), [1]);
}

/// The engine of these tests keeps one waiting instance in memory.
#[tokio::test]
async fn an_accepted_task_is_not_sent_again_when_its_instance_comes_back_to_memory() {
    let server = Server::start(|_| Does::answers(&server::http("202 Accepted", "", ""))).await;
    let harness = Harness::start_patient(&server.url()).await;
    let _others = [harness.another().await, harness.another().await, harness.another().await];
    while server.attempts().len() < 4 || harness.engine.counters().cached > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let step = StepRef::Path("work".to_owned());
    let progress = Progress {
        instance: harness.instance,
        step,
        step_type: None,
        attempt: Some(1),
        what: ProgressKind::Heartbeat,
    };
    harness.engine.progress(progress).await.unwrap();
    // What is sent to a service waits in one queue: it would have been before this one.
    let _later = harness.another().await;
    while server.attempts().len() < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.attempts(), [1; 5]);
}

#[tokio::test]
async fn an_accepted_task_is_completed_later_by_another_way() {
    let server = Server::start(|_| Does::answers(&server::http("202 Accepted", "", ""))).await;
    let harness = Harness::start(&server.url()).await;
    while server.attempts().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let complete = || Completion {
        instance: harness.instance,
        step: StepRef::Path("work".to_owned()),
        step_type: Some("work".to_owned()),
        attempt: Some(1),
        outcome: Ok(RawValue::from_string(OUTPUT.to_owned()).unwrap()),
    };
    assert_eq!(harness.engine.complete(complete()).await.unwrap(), CompletionOutcome::Accepted);
    assert_eq!(harness.engine.complete(complete()).await.unwrap(), CompletionOutcome::Duplicate);
    let end = harness.end().await;
    assert_eq!((end.status, end.output.as_deref()), (Status::Completed, Some(OUTPUT)));
    assert_eq!(server.attempts(), [1]);
}
