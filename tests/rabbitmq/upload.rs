//! The product upload of the reference, with its three services behind RabbitMQ.

use serde_json::json;

use crate::kit::eventually;
use crate::kit::upload::suite::a_product_is_made;
use crate::service::task;
use crate::{product, result, server, shared};

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn three_services_make_a_product_and_everybody_else_is_notified() {
    let broker = shared().await;
    let (server, line) = server(&broker).await;
    line.bind("notices", &["workflow.*"]).await.unwrap();
    let (document, _) = a_product_is_made(&server, &line).await;
    let id = document["workflow_id"].as_str().unwrap();

    let started = line.next("notices").await;
    let completed = line.next("notices").await;
    assert_eq!(
        (started.routing_key.as_str(), completed.routing_key.as_str()),
        ("workflow.start", "workflow.completed")
    );
    assert_eq!(
        (&task(&started).body["workflow_id"], &task(&completed).body["status"]),
        (&json!(id), &json!("completed"))
    );
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_server_that_ends_leaves_nothing_unacknowledged() {
    let broker = shared().await;
    let (mut server, line) = server(&broker).await;
    let _services = line.services(result).await;
    let client = server.client();
    let answer = client.post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    server.tell_to_end();
    assert!(server.ended().success());
    let queue = format!("{}.completions", line.exchange);
    eventually("the queue is empty", || async { (line.waiting(&queue).await == 0).then_some(()) })
        .await;
}
