//! Entries that are wrong, late, doubled or nonsense: they change nothing, and what nobody could
//! understand is dead-lettered.

use serde_json::{Value, json};

use crate::kit::{Client, eventually};
use crate::service::completion;
use crate::{product, result, server};

/// How often a step is recorded as completed.
async fn recorded(client: &Client, id: &str, path: &str) -> usize {
    let history = client.get(&format!("/api/v1/workflow/{id}/history")).await.json();
    let events = history["rows"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row["events"].as_array().unwrap().iter());
    events.filter(|event| event["type"] == "step_completed" && event["path"] == path).count()
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_malformed_entry_is_dead_lettered_with_its_reason_and_stops_nobody() {
    let (server, line) = server().await;
    let id = line
        .publish(
            "step.completed",
            &[("body", "{not json"), ("message_id", "poison-1"), ("colour", "red")],
        )
        .await
        .unwrap();
    let buried = line.next("dead", "people").await;
    assert_eq!(
        (buried.text("body"), buried.text("message_id"), buried.text("colour")),
        ("{not json", "poison-1", "red")
    );
    assert_eq!((buried.text("routing_key"), buried.text("entry")), ("step.completed", id.as_str()));
    assert_eq!(buried.text("stream"), line.stream("step.completed"));
    assert!(buried.text("reason").contains("line 1 column 2"), "{buried:?}");

    line.publish(
        "step.completed",
        &[("body", r#"{"workflow_id":"x","step_id":"y","success":true}"#)],
    )
    .await
    .unwrap();
    let buried = line.next("dead", "people").await;
    assert!(buried.text("reason").starts_with("workflow_id: "), "{buried:?}");

    line.publish("step.completed", &[("data", "{}")]).await.unwrap();
    let buried = line.next("dead", "people").await;
    assert!(buried.text("reason").contains("no field `body`"), "{buried:?}");

    let _services = line.services(result).await;
    let answer = server.client().post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    assert_eq!(answer.json()["metadata"]["status"], "completed", "{:?}", answer.body);
    line.is_empty("step.completed").await;
    assert_eq!(line.length("dead").await, 3);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_result_of_the_wrong_type_fails_the_step_and_is_dead_lettered() {
    let (server, line) = server().await;
    let _services =
        line.services(|_| json!({"processed_images": "one.jpg", "processing_time": "1s"})).await;
    let answer = server.client().post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    let document = answer.json();
    assert_eq!(document["metadata"]["status"], "failed", "{document:#}");
    assert_eq!(document["definition"]["steps"][0]["error_name"], "InvalidResult");
    let buried = line.next("dead", "people").await;
    assert!(buried.text("reason").contains("processed_images"), "{buried:?}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_completion_twice_late_or_with_another_result_changes_nothing() {
    let (server, line) = server().await;
    let services = line
        .services(
            |task| if task["step_type"] == "image_processing" { Value::Null } else { result(task) },
        )
        .await;
    let client = server.client();
    let id = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
    let task =
        eventually("the task comes", || async { services.tasks().first().cloned() }).await.body();
    for _ in 0..5 {
        line.complete(&task, &result(&task)).await;
    }
    client.until(&id, "completed").await;
    line.complete(&task, &result(&task)).await;
    line.complete(&task, &json!({"processed_images": ["other.jpg"], "processing_time": "1s"}))
        .await;
    // The only one that contradicts what is recorded.
    let buried = line.next("dead", "people").await;
    assert!(buried.text("reason").contains("with another result"), "{buried:?}");
    assert!(buried.text("body").contains("other.jpg"));
    assert_eq!(recorded(&client, &id, "image_processing").await, 1);
    line.is_empty("step.completed").await;
    assert_eq!(line.length("dead").await, 1);
    assert_eq!(client.status(&id).await["output"]["images"], json!(["processed1.jpg"]));

    // For an instance that nobody knows.
    let mut foreign = completion(&task, &result(&task));
    foreign["workflow_id"] = json!("01890a5d-ac96-774b-bcce-b302099a8057");
    line.publish("step.completed", &[("body", &foreign.to_string())]).await.unwrap();
    let buried = line.next("dead", "people").await;
    assert!(buried.text("reason").contains("not found"), "{buried:?}");
}
