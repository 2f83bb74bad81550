//! The log: what it says, and that nothing else depends on it.

use std::fs::File;
use std::process::Stdio;

use serde_json::json;

use crate::kit::{Reply, Server, Service, eventually};
use crate::server;

const TRIGGER: &str = "/api/v1/workflow/double";

/// Requests are answered, work is done, the end is in order.
async fn all_goes_on(server: &mut Server) {
    let client = server.client();
    for number in 0..4 {
        let answer = client.post(&format!("{TRIGGER}?wait=20s"), &json!({"number": number})).await;
        assert_eq!(
            (answer.status, &answer.json()["output"]),
            (200, &json!({"number": number * 4}))
        );
        assert_eq!(client.post(TRIGGER, &json!({})).await.status, 422);
        for path in ["/health/live", "/health/ready", "/health"] {
            assert_eq!(client.get(path).await.status, 200, "{path}");
        }
        // A step struct that panics says so in the log.
        let id = client.post(TRIGGER, &json!({"number": -1})).await.text("workflow_id");
        client.until(&id, "failed").await;
    }
    server.tell_to_end();
    assert!(server.ended().success());
}

#[tokio::test]
async fn a_log_on_a_full_disk_holds_nothing_up() {
    let mut server = server("");
    server.restart_logging_to(
        File::options().write(true).open("/dev/full").unwrap().into(),
        &["--log", "debug"],
    );
    all_goes_on(&mut server).await;
}

#[tokio::test]
async fn a_log_whose_reader_is_gone_holds_nothing_up() {
    let mut server = server("");
    let (reader, writer) = std::io::pipe().unwrap();
    server.restart_logging_to(Stdio::from(writer), &["--log", "debug"]);
    drop(reader);
    all_goes_on(&mut server).await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_nothing_up() {
    let mut server = server("");
    let (reader, mut writer) = std::io::pipe().unwrap();
    // As much as a pipe takes, so that there is no room for a single line.
    std::io::Write::write_all(&mut writer, &[b'x'; 64 << 10]).unwrap();
    server.restart_logging_to(Stdio::from(writer), &["--log", "debug"]);
    all_goes_on(&mut server).await;
    drop(reader);
}

#[tokio::test]
async fn a_client_cannot_write_lines_into_the_log() {
    let server = server("");
    let forged = "x\n2026-01-01T00:00:00.000000Z ERROR forged\u{1b}[2J";
    let answer = server.client().post("/api/v1/events", &json!({"type": forged, "data": {}})).await;
    assert_eq!(answer.problem(), "unknown-event");
    let log = || async { Some(server.log()).filter(|log| log.contains("forged")) };
    let log = eventually("the refusal is in the log", log).await;
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01")), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

/// The log, when it says all of it.
async fn log_with(server: &Server, words: &[&str]) -> String {
    let all =
        || async { Some(server.log()).filter(|log| words.iter().all(|word| log.contains(word))) };
    eventually(&format!("the log says {words:?}"), all).await
}

fn line<'a>(log: &'a str, word: &str) -> &'a str {
    log.lines()
        .find(|line| line.contains(word))
        .unwrap_or_else(|| panic!("no line says {word:?}: {log}"))
}

#[tokio::test]
async fn what_fails_for_good_is_a_warning_and_what_goes_well_is_not_in_the_log() {
    let server = server("");
    let client = server.client();
    let good = client.start(TRIGGER, &json!({"number": 1})).await;
    client.until(&good, "completed").await;
    let bad = client.start(TRIGGER, &json!({"number": 13})).await;
    client.until(&bad, "failed").await;
    let log = log_with(&server, &["step failed for good", "instance failed"]).await;
    for word in ["step failed for good", "instance failed"] {
        let line = line(&log, word);
        assert!(line.contains(" WARN ") && line.contains("workflow=\"double\""), "{line}");
        assert!(line.contains(&bad) && line.contains("13 brings bad luck"), "{line}");
    }
    assert!(line(&log, "step failed for good").contains("path=\"first\" attempt=1"), "{log}");
    assert!(!log.contains(&good), "{log}");
    let asleep = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    assert!(client.tell(&asleep, "cancel", &json!({"reason": "a\nb"})).await.status < 300);
    let log = log_with(&server, &["instance cancelled"]).await;
    assert!(
        line(&log, "command accepted").contains("command=\"cancel\" reason=\"a\\nb\""),
        "{log}"
    );
    // Refused requests are the business of who sends them.
    assert_eq!(client.post(TRIGGER, &json!({})).await.status, 422);
    let log = log_with(&server, &["a request was refused"]).await;
    assert!(line(&log, "a request was refused").contains(" INFO "), "{log}");
}

#[tokio::test]
async fn retries_are_logged_and_an_undo_that_fails_for_good_and_what_is_parked_are_warnings() {
    let service = Service::start(|task| match task["step_type"].as_str() {
        Some("book_room") => Reply::Done(json!({"room": "12"})),
        _ => Reply::Failed(json!("closed")),
    })
    .await;
    let server = server(&service.config(&["book_room", "book_flight", "cancel_room"]));
    let client = server.client();
    let id = client.start("/api/v1/workflow/trip", &json!({"city": "Bruges"})).await;
    client.until(&id, "parked").await;
    let words = [
        "attempt failed; retrying",
        "step failed for good",
        "undo failed for good",
        "instance parked",
    ];
    let log = log_with(&server, &words).await;
    for (word, level) in words.into_iter().zip([" INFO ", " WARN ", " WARN ", " WARN "]) {
        let line = line(&log, word);
        assert!(
            line.contains(level) && line.contains("workflow=\"trip\"") && line.contains(&id),
            "{line}"
        );
        assert!(line.contains("closed"), "{line}");
    }
    assert!(
        line(&log, "undo failed for good").contains("path=\"book_room/undo\" attempt=2"),
        "{log}"
    );
}

#[tokio::test]
async fn starts_and_ends_and_attempts_are_in_the_log_where_it_names_them() {
    let mut server = server("");
    server.restart_with(&["--log", "info,crux::instances=info,crux::attempts=info"]);
    let client = server.client();
    let id = client.start(TRIGGER, &json!({"number": 1})).await;
    client.until(&id, "completed").await;
    let words = ["instance started", "attempt dispatched", "step completed", "instance completed"];
    let log = log_with(&server, &words).await;
    for word in words {
        let line = line(&log, word);
        assert!(
            line.contains(" INFO ") && line.contains("workflow=\"double\"") && line.contains(&id),
            "{line}"
        );
    }
}

#[tokio::test]
async fn what_a_step_struct_says_says_which_attempt_it_is() {
    let server = server("");
    let id = server.client().start(TRIGGER, &json!({"number": -1})).await;
    let log = log_with(&server, &["a negative number"]).await;
    let line = line(&log, "a negative number");
    let span = format!("attempt{{workflow=\"double\" instance=\"{id}\" path=\"first\" attempt=1}}");
    assert!(line.contains(" ERROR ") && line.contains(&span), "{line}");
}

#[tokio::test]
async fn figures_are_kept_by_workflow_and_step() {
    let server = server("");
    let client = server.client();
    for (number, status) in [(1, "completed"), (13, "failed")] {
        let id = client.start(TRIGGER, &json!({"number": number})).await;
        client.until(&id, status).await;
    }
    let asleep = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    client.until(&asleep, "waiting").await;
    let metrics = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
    for line in [
        "crux_workflow_started_total{workflow=\"double\"} 2",
        "crux_workflow_ended_total{workflow=\"double\",outcome=\"completed\"} 1",
        "crux_workflow_ended_total{workflow=\"double\",outcome=\"failed\"} 1",
        "crux_steps_failed_total{workflow=\"double\",step=\"first\"} 1",
        "crux_step_attempts_failed_total{workflow=\"double\",step=\"second\"} 0",
        "crux_step_attempt_duration_seconds_count{workflow=\"double\",step=\"first\"} 2",
        "crux_step_attempt_duration_seconds_bucket{le=\"+Inf\",workflow=\"double\",step=\"second\"} 1",
        "crux_worker_queued{step_type=\"double\"} 0",
        "crux_worker_queue_wait_seconds_count{step_type=\"double\"} 3",
        "crux_workflow_instances{workflow=\"nap\",status=\"waiting\"} 1",
        "crux_workflow_instances{workflow=\"double\",status=\"parked\"} 0",
        "crux_log_lines_lost_total 0",
    ] {
        assert!(metrics.lines().any(|metric| metric == line), "no {line}: {metrics}");
    }
    let commits = metrics
        .lines()
        .find_map(|line| line.strip_prefix("crux_store_append_duration_seconds_count "));
    assert!(commits.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
}

#[tokio::test]
async fn a_name_of_a_megabyte_is_cut_off_in_answers_and_in_the_log() {
    let server = server("limits: { max_body_size: 4MiB }\n");
    let client = server.client();
    let name = "ä".repeat(1 << 19);
    // What looks for a similar name among all letters takes minutes; no client waits for that.
    let answer = client.post("/api/v1/events", &json!({"type": name, "data": {}})).await;
    assert_eq!(answer.problem(), "unknown-event");
    assert!(answer.text("detail").len() < 4096, "{}", answer.text("detail").len());
    // Also of a field that the input does not have, and of a workflow that is not there.
    let answer = client.post(TRIGGER, &json!({"number": 1, (name.clone()): 1})).await;
    assert_eq!((answer.status, answer.body.len() < 8192), (202, true), "{}", answer.body.len());
    let answer = client.get(&format!("/api/v1/workflows?workflow={}", "x".repeat(30_000))).await;
    assert!(answer.body.len() < 8192, "{}", answer.body.len());
    let log = log_with(&server, &["unknown-event"]).await;
    assert!(log.len() < 64 << 10, "{}", log.len());
}
