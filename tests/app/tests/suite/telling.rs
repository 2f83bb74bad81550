//! Commands: cancel, retry, undo, fail, pause, resume, restart.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::{Client, Reply, Server, Service, eventually};
use crate::server;

/// A service in which a value of `bad` fails and any other is done.
async fn choosy() -> (Server, Client, Service) {
    let service = Service::start(|task| {
        let value = &task["input"]["value"];
        if value == "bad" { Reply::Failed(json!("cannot take this")) } else { Reply::Done(json!({"done": value})) }
    })
    .await;
    let server = server(&service.config(&["left", "right"]));
    let client = server.client();
    (server, client, service)
}

fn state(document: &Value, branch: usize) -> &str {
    document["definition"]["steps"][0]["definition"]["steps"][branch]["state"].as_str().unwrap()
}

#[tokio::test]
async fn one_of_two_failed_branches_gets_a_corrected_input_and_then_the_other() {
    let (_server, client, service) = choosy().await;
    let id = client.start("/api/v1/workflow/careful", &json!({"left": "bad", "right": "bad"})).await;
    // The first failure parks it; the other branch's attempt still runs to its end.
    client.until(&id, "parked").await;
    let document = eventually("both have failed", || async {
        let document = client.status(&id).await;
        (state(&document, 0) == "failed" && state(&document, 1) == "failed").then_some(document)
    })
    .await;
    assert_eq!(document["current_steps"].as_array().unwrap().len(), 2);
    // For both at once an input would be for nobody in particular.
    let answer = client.tell(&id, "retry", &json!({"input": {"value": "good"}})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "not-now"));
    let answer = client.tell(&id, "retry", &json!({"step_id": "both/left", "input": {"value": 7}})).await;
    assert_eq!((answer.status, answer.problem().as_str(), answer.field().as_str()), (422, "invalid-input", "value"));
    assert_eq!(client.tell(&id, "retry", &json!({"step_id": "both/left", "input": {"value": "good"}})).await.status, 200);
    let document = client.until(&id, "parked").await;
    assert_eq!((state(&document, 0), state(&document, 1)), ("completed", "failed"));
    assert_eq!(client.tell(&id, "retry", &json!({"step_id": "both/right", "input": {"value": "better"}})).await.status, 200);
    let document = client.until(&id, "completed").await;
    assert_eq!(document["output"], json!({"left": "good", "right": "better"}));
    assert_eq!(service.tasks().len(), 4);
}

#[tokio::test]
async fn a_parked_instance_can_be_failed_or_undone_and_waits_for_neither_otherwise() {
    let (_server, client, _service) = choosy().await;
    for command in ["fail", "undo"] {
        let id = client.start("/api/v1/workflow/careful", &json!({"left": "bad", "right": "good"})).await;
        let document = client.until(&id, "parked").await;
        assert_eq!(document["current_steps"][0]["waits_for"], "a person: retry, undo or fail", "{document:#}");
        assert_eq!(client.tell(&id, command, &json!({})).await.status, 200);
        client.until(&id, "failed").await;
        let again = client.tell(&id, command, &json!({})).await;
        assert_eq!((again.status, again.problem().as_str()), (409, "not-now"));
    }
}

#[tokio::test]
async fn a_cancelled_instance_ends_as_cancelled() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    assert_eq!(client.tell(&id, "cancel", &json!({"reason": "not tired"})).await.status, 200);
    let document = client.until(&id, "cancelled").await;
    assert_eq!((&document["error"], &document["error_name"]), (&json!("Cancelled: not tired"), &json!("Cancelled")));
    assert_eq!(client.tell(&id, "cancel", &json!({})).await.problem(), "not-now");
    let answer = client.tell(&id, "cancel", &json!({"raeson": "x"})).await;
    assert_eq!((answer.status, answer.field().as_str()), (400, "raeson"));
}

#[tokio::test]
async fn a_step_struct_that_listens_ends_when_its_instance_is_cancelled() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/question", &json!({"question": "why?"})).await;
    assert_eq!(client.status(&id).await["metadata"]["status"], "processing");
    let cancelled = Instant::now();
    assert_eq!(client.tell(&id, "cancel", &json!({})).await.status, 200);
    client.until(&id, "cancelled").await;
    assert!(cancelled.elapsed() < Duration::from_secs(10), "it was not told: {:?}", cancelled.elapsed());
    let workers = client.get("/api/v1/workers").await.json();
    let ask = workers["workers"].as_array().unwrap().iter().find(|worker| worker["step_type"] == "ask").unwrap();
    assert_eq!(ask["running"], 0, "{ask}");
}

#[tokio::test]
async fn what_was_done_is_undone_newest_first_when_a_later_step_fails() {
    let service = Service::start(|task| match task["step_type"].as_str() {
        Some("book_room") => Reply::Done(json!({"room": "12"})),
        Some("book_flight") => Reply::Failed(json!("no seat")),
        _ => Reply::Done(json!({})),
    })
    .await;
    let server = server(&service.config(&["book_room", "book_flight", "cancel_room"]));
    let client = server.client();
    let document = client.post("/api/v1/workflow/trip?wait=30s", &json!({"city": "Rome"})).await.json();
    assert_eq!((&document["metadata"]["status"], &document["error"]), (&json!("failed"), &json!("no seat")));
    assert_eq!((&document["undo"][0]["type"], &document["undo"][0]["state"]), (&json!("cancel_room"), &json!("completed")));
    assert_eq!(service.task("cancel_room", 1).await["input"], json!({"room": "12"}));
    assert_eq!(service.task("book_flight", 1).await["input"]["from"], "Ghent");
    // Undone: there is nothing to go on from.
    let id = document["workflow_id"].as_str().unwrap();
    let answer = client.tell(id, "retry", &json!({})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "not-now"));
    assert!(answer.text("detail").contains("restart"), "{}", answer.text("detail"));
    let restarted = client.tell(id, "restart", &json!({})).await;
    assert_eq!(restarted.status, 202);
    assert_ne!(restarted.text("workflow_id"), id);
    let document = client.until(&restarted.text("workflow_id"), "failed").await;
    assert_eq!(document["data"]["payload"], json!({"city": "Rome"}));
    assert_eq!(document["trigger"], format!("restart of {id}"));
}

#[tokio::test]
async fn a_running_instance_is_not_restarted() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    let answer = client.tell(&id, "restart", &json!({})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "not-now"));
    let stranger = "0199b0a4-5a3c-7d21-9f0e-3b1d5a7c2e44";
    for command in ["cancel", "retry", "undo", "fail", "pause", "resume", "restart"] {
        assert_eq!(client.tell(stranger, command, &json!({})).await.problem(), "unknown-instance", "{command}");
        assert_eq!(client.tell("x", command, &json!({})).await.field(), "workflow_id", "{command}");
    }
}

#[tokio::test]
async fn a_timer_that_comes_due_in_a_pause_fires_on_resume() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/nap", &json!({"nap": "600ms"})).await;
    assert_eq!(client.tell(&id, "pause", &json!({})).await.status, 200);
    assert_eq!(client.tell(&id, "pause", &json!({})).await.problem(), "not-now");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let document = client.until(&id, "paused").await;
    assert_eq!(document["definition"]["steps"][1]["state"], "pending", "it went on in the pause");
    let resumed = Instant::now();
    assert_eq!(client.tell(&id, "resume", &json!({})).await.status, 200);
    client.until(&id, "completed").await;
    assert!(resumed.elapsed() < Duration::from_millis(500), "it slept again");
    assert_eq!(client.tell(&id, "resume", &json!({})).await.problem(), "not-now");
}

#[tokio::test]
async fn a_result_that_comes_in_a_pause_is_kept() {
    let (_server, client, service) = {
        let service = Service::start(|_| Reply::Later).await;
        let server = server(&service.config(&["prepare", "finish"]));
        let client = server.client();
        (server, client, service)
    };
    let id = client.start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    service.task("prepare", 1).await;
    client.tell(&id, "pause", &json!({})).await;
    assert_eq!(client.complete(&id, "prepare", &json!({"size": 1})).await.text("status"), "accepted");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(service.tasks().len(), 1, "the next step was sent in the pause");
    client.tell(&id, "resume", &json!({})).await;
    service.task("finish", 1).await;
}
