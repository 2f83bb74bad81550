//! What services tell of their steps, and what is answered.

use serde_json::{Value, json};

use crate::kit::{Client, Reply, Server, Service, eventually};
use crate::server;

const TOLD: &str = "/api/v1/workflow/step-completed";

/// A service that takes `prepare` and `finish` and says nothing more, and an instance that it has
/// been given.
async fn waiting() -> (Server, Client, Service, String) {
    let service = Service::start(|_| Reply::Later).await;
    let server = server(&service.config(&["prepare", "finish"]));
    let client = server.client();
    let id = client.start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    service.task("prepare", 1).await;
    (server, client, service, id)
}

async fn step_id(client: &Client, id: &str, n: usize) -> String {
    let document = client.status(id).await;
    document["definition"]["steps"][n]["step_instance_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_completion_moves_the_workflow_on() {
    let (_server, client, service, id) = waiting().await;
    let task = service.task("prepare", 1).await;
    assert_eq!(
        (&task["workflow_id"], &task["attempt"], &task["input"]),
        (&json!(id), &json!(1), &json!({"item": "cup"}))
    );
    let said = json!({
        "workflow_id": id, "step_id": task["step_id"], "step_type": "prepare", "attempt": 1, "success": true, "result": {"size": 3},
    });
    let answer = client.post(TOLD, &said).await;
    assert_eq!((answer.status, answer.text("status").as_str()), (200, "accepted"));
    let next = service.task("finish", 1).await;
    assert_eq!(next["input"], json!({"size": 3}));
    // Prefixed ids are the same ids.
    let prefixed = client
        .complete(
            &format!("workflow_instance:{id}"),
            &step_id(&client, &id, 1).await,
            &json!({"label": "L"}),
        )
        .await;
    assert_eq!(prefixed.text("status"), "accepted");
    assert_eq!(client.until(&id, "completed").await["output"], json!({"label": "L"}));
}

#[tokio::test]
async fn the_same_completion_twice_is_a_duplicate() {
    let (_server, client, _service, id) = waiting().await;
    for expected in ["accepted", "duplicate", "duplicate"] {
        let answer = client.complete(&id, "prepare", &json!({"size": 3})).await;
        assert_eq!((answer.status, answer.text("status").as_str()), (200, expected));
    }
    // And still is when it has ended.
    client.complete(&id, "finish", &json!({"label": "L"})).await;
    client.until(&id, "completed").await;
    assert_eq!(
        client.complete(&id, "finish", &json!({"label": "L"})).await.text("status"),
        "duplicate"
    );
}

#[tokio::test]
async fn a_different_completion_is_a_conflict() {
    let (_server, client, _service, id) = waiting().await;
    client.complete(&id, "prepare", &json!({"size": 3})).await;
    let answer = client.complete(&id, "prepare", &json!({"size": 4})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "conflict"));
    assert_eq!(client.status(&id).await["definition"]["steps"][0]["output"], json!({"size": 3}));
}

#[tokio::test]
async fn an_unknown_instance_and_an_unknown_or_foreign_step_are_distinguished() {
    let (_server, client, _service, id) = waiting().await;
    let other = client.start("/api/v1/workflow/work", &json!({"item": "jug"})).await;
    let stranger = "0199b0a4-5a3c-7d21-9f0e-3b1d5a7c2e44";
    let foreign = step_id(&client, &other, 0).await;
    for (workflow, step, problem) in [
        (stranger, "prepare", "unknown-instance"),
        (&id, stranger, "unknown-step"),
        (&id, &foreign, "unknown-step"),
        (&id, "prepared", "unknown-step"),
    ] {
        let answer = client.complete(workflow, step, &json!({"size": 3})).await;
        assert_eq!((answer.status, answer.problem().as_str()), (404, problem), "{workflow} {step}");
    }
    let answer = client.complete("uuid-here", "prepare", &json!({})).await;
    assert_eq!((answer.status, answer.field().as_str()), (400, "workflow_id"));
    assert_eq!(client.status(&id).await["definition"]["steps"][0]["state"], "processing");
}

#[tokio::test]
async fn a_completion_for_a_step_that_is_not_open_changes_nothing() {
    let (_server, client, _service, id) = waiting().await;
    let answer = client.complete(&id, "finish", &json!({"label": "too early"})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "invalid-state"));
    client.complete(&id, "prepare", &json!({"size": 3})).await;
    client.complete(&id, "finish", &json!({"label": "right"})).await;
    assert_eq!(client.until(&id, "completed").await["output"], json!({"label": "right"}));
}

#[tokio::test]
async fn a_completion_of_another_step_type_is_refused() {
    let (_server, client, _service, id) = waiting().await;
    let said = json!({"workflow_id": id, "step_id": "prepare", "step_type": "finish", "success": true, "result": {"size": 3}});
    let answer = client.post(TOLD, &said).await;
    assert_eq!((answer.status, answer.problem().as_str()), (422, "wrong-step-type"));
}

#[tokio::test]
async fn a_result_of_the_wrong_type_is_refused_and_the_step_stays_open() {
    let (_server, client, _service, id) = waiting().await;
    for wrong in [json!({}), json!({"size": "3"}), json!(null), json!([])] {
        let answer = client.complete(&id, "prepare", &wrong).await;
        assert_eq!((answer.status, answer.problem().as_str()), (422, "invalid-input"), "{wrong}");
        assert!(answer.field().is_empty() || answer.field().contains("size"), "{}", answer.field());
    }
    assert_eq!(
        client.complete(&id, "prepare", &json!({"size": 3})).await.text("status"),
        "accepted"
    );
}

#[tokio::test]
async fn a_late_success_of_attempt_1_counts_after_attempt_2_was_sent() {
    // The timeout of an attempt is one second.
    let (_server, client, service, id) = waiting().await;
    service.task("prepare", 2).await;
    let late = json!({"workflow_id": id, "step_id": "prepare", "attempt": 1, "success": true, "result": {"size": 1}});
    assert_eq!(client.post(TOLD, &late).await.text("status"), "accepted");
    let second = json!({"workflow_id": id, "step_id": "prepare", "attempt": 2, "success": true, "result": {"size": 2}});
    assert_eq!(client.post(TOLD, &second).await.problem(), "conflict");
    assert_eq!(service.task("finish", 1).await["input"], json!({"size": 1}));
}

#[tokio::test]
async fn a_late_failure_of_attempt_1_is_superseded() {
    let (_server, client, service, id) = waiting().await;
    service.task("prepare", 2).await;
    let late = json!({"workflow_id": id, "step_id": "prepare", "attempt": 1, "success": false, "error": "too late"});
    assert_eq!(client.post(TOLD, &late).await.text("status"), "superseded");
    assert_eq!(
        client.complete(&id, "prepare", &json!({"size": 3})).await.text("status"),
        "accepted"
    );
}

async fn fail(client: &Client, id: &str, error: Value) -> Value {
    let said = json!({"workflow_id": id, "step_id": "prepare", "success": false, "error": error});
    let answer = client.post(TOLD, &said).await;
    assert_eq!((answer.status, answer.text("status").as_str()), (200, "accepted"));
    client.status(id).await["definition"]["steps"][0].clone()
}

#[tokio::test]
async fn a_failure_is_tried_again_and_an_error_that_says_never_is_not() {
    let (_server, client, service, id) = waiting().await;
    let step = fail(&client, &id, json!("no room")).await;
    assert!(["retrying", "processing"].contains(&step["state"].as_str().unwrap()), "{step}");
    assert_eq!(step["error"], "no room");
    service.task("prepare", 2).await;
    fail(&client, &id, json!({"name": "Rejected", "message": "never again"})).await;
    let document = client.until(&id, "failed").await;
    assert_eq!(
        (&document["error"], &document["error_name"]),
        (&json!("Rejected: never again"), &json!("Rejected"))
    );
    assert_eq!(document["definition"]["steps"][0]["attempts"], 2);
    assert_eq!(service.tasks().len(), 2);
}

#[tokio::test]
async fn a_body_of_the_wrong_form_names_its_field() {
    let (_server, client, _service, id) = waiting().await;
    for (body, field) in [
        (json!({"step_id": "prepare", "success": true}), "workflow_id"),
        (json!({"workflow_id": id, "step_id": "prepare"}), "success"),
        (json!({"workflow_id": id, "step_id": "prepare", "success": "yes"}), "success"),
        (json!({"workflow_id": id, "step_id": "Pre pare", "success": true}), "step_id"),
        (json!({"workflow_id": id, "step_id": "prepare", "success": false, "error": 7}), "error"),
    ] {
        let answer = client.post(TOLD, &body).await;
        assert_eq!(
            (answer.problem().as_str(), answer.field().as_str()),
            ("invalid-request", field),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_worker_that_falls_silent_leaves_the_outcome_of_a_once_step_unknown() {
    let service = Service::start(|_| Reply::Later).await;
    let server = server(&service.config(&["transfer"]));
    let client = server.client();
    let id = client.start("/api/v1/workflow/pay", &json!({"cents": 100})).await;
    service.task("transfer", 1).await;
    let sign = json!({"workflow_id": id, "step_id": "transfer", "attempt": 1});
    assert_eq!(client.post("/api/v1/workflow/step-started", &sign).await.status, 200);
    assert_eq!(client.post("/api/v1/workflow/step-heartbeat", &sign).await.status, 200);
    let document = client.until(&id, "parked").await;
    assert_eq!(document["error_name"], "OutcomeUnknown");
    assert_eq!(service.tasks().len(), 1, "it was sent twice");
    // A person, or the service itself, says what the outcome was.
    let answer = client.complete(&id, "transfer", &json!({"receipt": "R-1"})).await;
    assert_eq!(answer.text("status"), "accepted");
    assert_eq!(client.until(&id, "completed").await["output"], json!({"receipt": "R-1"}));
}

#[tokio::test]
async fn completions_that_come_together_are_recorded_once() {
    let (_server, client, service, id) = waiting().await;
    let said = body(&id);
    let answers = futures_util::future::join_all((0..30).map(|_| client.post(TOLD, &said))).await;
    let accepted = answers.iter().filter(|answer| answer.text("status") == "accepted").count();
    assert_eq!(accepted, 1);
    assert!(answers.iter().all(|answer| answer.status == 200));
    service.task("finish", 1).await;
    let history = eventually("the history", || async {
        Some(client.get(&format!("/api/v1/workflow/{id}/history")).await.json())
    })
    .await;
    let completed = history.to_string().matches("\"type\":\"step_completed\"").count();
    assert_eq!(completed, 1, "{history:#}");
}

fn body(id: &str) -> Value {
    json!({"workflow_id": id, "step_id": "prepare", "success": true, "result": {"size": 3}})
}
