//! Messages that are wrong, late, doubled or nonsense: they change nothing, and what nobody could
//! understand is dead-lettered.

use serde_json::{Value, json};

use crate::kit::{Client, eventually};
use crate::service::{completion, header};
use crate::{product, result, server, shared};

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
#[ignore = "needs rabbitmq-server"]
async fn a_malformed_message_is_dead_lettered_with_its_reason_and_stops_nobody() {
    let broker = shared().await;
    let (server, line) = server(&broker).await;
    let dead = format!("{}.dead", line.exchange);
    line.publish("step.completed", "poison-1", b"{not json").await;
    let buried = line.next(&dead).await;
    assert_eq!(buried.data, b"{not json");
    assert_eq!(header(&buried, "x-crux-routing-key"), "step.completed");
    assert!(
        header(&buried, "x-crux-reason").contains("line 1 column 2"),
        "{}",
        header(&buried, "x-crux-reason")
    );
    assert_eq!(buried.properties.message_id().as_ref().unwrap().as_str(), "poison-1");

    line.publish("step.completed", "", br#"{"workflow_id":"x","step_id":"y","success":true}"#)
        .await;
    let buried = line.next(&dead).await;
    assert!(
        header(&buried, "x-crux-reason").starts_with("workflow_id: "),
        "{}",
        header(&buried, "x-crux-reason")
    );

    let _services = line.services(result).await;
    let answer = server.client().post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    assert_eq!(answer.json()["metadata"]["status"], "completed", "{:?}", answer.body);
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_result_of_the_wrong_type_fails_the_step_and_is_dead_lettered() {
    let broker = shared().await;
    let (server, line) = server(&broker).await;
    let _services =
        line.services(|_| json!({"processed_images": "one.jpg", "processing_time": "1s"})).await;
    let answer = server.client().post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    let document = answer.json();
    assert_eq!(document["metadata"]["status"], "failed", "{document:#}");
    assert_eq!(document["definition"]["steps"][0]["error_name"], "InvalidResult");
    let buried = line.next(&format!("{}.dead", line.exchange)).await;
    assert!(
        header(&buried, "x-crux-reason").contains("processed_images"),
        "{}",
        header(&buried, "x-crux-reason")
    );
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_completion_twice_late_or_with_another_result_changes_nothing() {
    let broker = shared().await;
    let (server, line) = server(&broker).await;
    let services = line
        .services(
            |task| if task["step_type"] == "image_processing" { Value::Null } else { result(task) },
        )
        .await;
    let client = server.client();
    let id = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
    let task =
        eventually("the task comes", || async { services.tasks().first().cloned() }).await.body;
    for _ in 0..5 {
        line.complete(&task, &result(&task)).await;
    }
    client.until(&id, "completed").await;
    line.complete(&task, &result(&task)).await;
    line.complete(&task, &json!({"processed_images": ["other.jpg"], "processing_time": "1s"}))
        .await;
    // The only one that contradicts what is recorded.
    let buried = line.next(&format!("{}.dead", line.exchange)).await;
    assert!(
        header(&buried, "x-crux-reason").contains("with another result"),
        "{}",
        header(&buried, "x-crux-reason")
    );
    assert!(String::from_utf8_lossy(&buried.data).contains("other.jpg"));
    assert_eq!(recorded(&client, &id, "image_processing").await, 1);
    assert_eq!(line.waiting(&format!("{}.dead", line.exchange)).await, 0);
    assert_eq!(client.status(&id).await["output"]["images"], json!(["processed1.jpg"]));

    // For an instance that nobody knows.
    let mut foreign = completion(&task, &result(&task));
    foreign["workflow_id"] = json!("01890a5d-ac96-774b-bcce-b302099a8057");
    line.publish("step.completed", "", foreign.to_string().as_bytes()).await;
    let buried = line.next(&format!("{}.dead", line.exchange)).await;
    assert!(
        header(&buried, "x-crux-reason").contains("not found"),
        "{}",
        header(&buried, "x-crux-reason")
    );
}
