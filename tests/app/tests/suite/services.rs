//! Services that misbehave, seen from the status document.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::kit::{Gate, Reply, Service, eventually};
use crate::server;

/// Runs `work` with a first service like this and a good second one, to its end.
async fn worked(prepare: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Value {
    let service = Service::start(move |task| {
        if task["step_type"] == "prepare" {
            prepare(task)
        } else {
            Reply::Done(json!({"label": "L"}))
        }
    })
    .await;
    let server = server(&service.config(&["prepare", "finish"]));
    let answer =
        server.client().post("/api/v1/workflow/work?wait=30s", &json!({"item": "cup"})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()
}

fn first(document: &Value) -> (&str, &str, u64) {
    let step = &document["definition"]["steps"][0];
    (
        step["state"].as_str().unwrap(),
        step["error_name"].as_str().unwrap(),
        step["attempts"].as_u64().unwrap(),
    )
}

#[tokio::test]
async fn a_service_that_is_down_is_waited_for_and_uses_up_no_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config =
        format!("services:\n  test: {{ url: 'http://{address}/', steps: [prepare, finish] }}\n");
    let server = server(&config);
    let client = server.client();
    let id = client.start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    let why = eventually("the reason is shown", || async {
        let document = client.status(&id).await;
        let why = document["current_steps"][0]["waits_for"].as_str().unwrap_or_default().to_owned();
        why.starts_with("its delivery: ").then_some(why)
    })
    .await;
    assert!(why.contains("test"), "{why}");
    let listener = TcpListener::bind(address).await.unwrap();
    let _service = Service::on(listener, |task| {
        Reply::Done(if task["step_type"] == "prepare" {
            json!({"size": 1})
        } else {
            json!({"label": "L"})
        })
    });
    let document = client.until(&id, "completed").await;
    assert_eq!(first(&document), ("completed", "", 1));
}

#[tokio::test]
async fn a_slow_service_is_tried_again_when_its_time_is_over() {
    let document = worked(|task| match task["attempt"].as_u64() {
        Some(1) => Reply::After(Duration::from_secs(5), Box::new(Reply::Done(json!({"size": 1})))),
        _ => Reply::Done(json!({"size": 2})),
    })
    .await;
    assert_eq!(document["metadata"]["status"], "completed");
    assert_eq!(first(&document), ("completed", "", 2));
    assert_eq!(document["definition"]["steps"][0]["output"], json!({"size": 2}));
}

#[tokio::test]
async fn an_answer_after_the_time_out_counts_if_it_is_the_first() {
    // The timeout is one second; the second attempt has been sent and says nothing.
    let gate = Gate::closed();
    let document = worked(move |task| match task["attempt"].as_u64() {
        Some(1) => Reply::When(gate.clone(), Box::new(Reply::Done(json!({"size": 1})))),
        _ => {
            gate.open();
            Reply::Later
        }
    })
    .await;
    assert_eq!(first(&document), ("completed", "", 2));
    assert_eq!(document["definition"]["steps"][0]["output"], json!({"size": 1}));
}

#[tokio::test]
async fn a_service_that_answers_garbage_fails_the_step_as_invalid_result() {
    let document = worked(|_| Reply::Raw(200, "<html>".to_owned())).await;
    assert_eq!(
        (first(&document), &document["metadata"]["status"]),
        (("failed", "InvalidResult", 1), &json!("failed"))
    );
    let document = worked(|_| Reply::Done(json!({"size": "large"}))).await;
    assert_eq!(first(&document), ("failed", "InvalidResult", 1));
    assert!(document["error"].as_str().unwrap().contains("size"), "{}", document["error"]);
}

/// A service that reports success has done the work.
#[tokio::test]
async fn what_gave_a_result_of_the_wrong_type_is_undone() {
    let service = Service::start(|task| match task["step_type"].as_str() {
        Some("book_room") => Reply::Done(json!({"room": 12})),
        _ => Reply::Done(json!({})),
    })
    .await;
    let server = server(&service.config(&["book_room", "book_flight", "cancel_room"]));
    let document = server
        .client()
        .post("/api/v1/workflow/trip?wait=30s", &json!({"city": "Rome"}))
        .await
        .json();
    assert_eq!(
        (&document["metadata"]["status"], &document["error_name"]),
        (&json!("failed"), &json!("InvalidResult")),
        "{document:#}"
    );
    assert_eq!(
        (&document["undo"][0]["type"], &document["undo"][0]["state"]),
        (&json!("cancel_room"), &json!("completed"))
    );
    // Which room nobody knows.
    assert_eq!(service.task("cancel_room", 1).await["input"], json!({}));
    assert_eq!(service.tasks().len(), 2);
}

#[tokio::test]
async fn a_service_that_closes_half_way_is_tried_again() {
    let document =
        worked(
            |task| {
                if task["attempt"] == 1 { Reply::HalfWay } else { Reply::Done(json!({"size": 1})) }
            },
        )
        .await;
    assert_eq!(first(&document), ("completed", "", 2));
}

#[tokio::test]
async fn a_server_error_is_tried_again_and_a_client_error_is_not() {
    let document = worked(|_| Reply::Raw(500, "oops".to_owned())).await;
    assert_eq!(first(&document), ("failed", "Error", 3));
    let document = worked(|_| Reply::Raw(422, "not this".to_owned())).await;
    assert_eq!(first(&document), ("failed", "InvalidInput", 1));
}

#[tokio::test]
async fn workers_and_services_are_listed() {
    let service = Service::start(|_| Reply::Later).await;
    let server = server(&format!(
        "{}workers: {{ steps: {{ double: {{ maximum: 3 }} }} }}\n",
        service.config(&["prepare"])
    ));
    let workers = server.client().get("/api/v1/workers").await.json();
    let double = workers["workers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|worker| worker["step_type"] == "double")
        .unwrap();
    assert_eq!((&double["maximum"], &double["running"]), (&json!(3), &json!(0)));
    assert_eq!(workers["services"][0]["service"], "test");
}
