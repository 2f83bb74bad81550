//! Events that come by the broker, under their own names as routing keys.

use serde_json::json;

use crate::kit::{eventually, order};
use crate::service::header;
use crate::{server, shared};

#[tokio::test]
async fn an_event_starts_an_instance_once_per_message_id() {
    let broker = shared().await;
    let (server, line) = server(&broker).await;
    let client = server.client();
    for _ in 0..3 {
        line.publish("order.created", "event-1", order("ORD-1").to_string().as_bytes()).await;
    }
    line.publish("order.created", "event-2", order("ORD-2").to_string().as_bytes()).await;
    let list = eventually("both have completed", || async {
        let list = client.get("/api/v1/workflow/list?workflow=order&status=completed").await.json();
        (list["workflows"].as_array().unwrap().len() >= 2).then_some(list)
    })
    .await;
    assert_eq!(list["workflows"].as_array().unwrap().len(), 2, "{list:#}");
    let all = client.get("/api/v1/workflow/list").await.json();
    assert_eq!(all["workflows"].as_array().unwrap().len(), 2, "{all:#}");
}

#[tokio::test]
async fn an_event_of_the_wrong_shape_is_put_aside() {
    let broker = shared().await;
    let (server, line) = server(&broker).await;
    line.publish("order.created", "event-1", json!("what is this").to_string().as_bytes()).await;
    let buried = line.next(&format!("{}.dead", line.exchange)).await;
    assert_eq!(header(&buried, "x-crux-queue"), format!("{}.events", line.exchange));
    assert!(!header(&buried, "x-crux-reason").is_empty());
    let all = server.client().get("/api/v1/workflow/list").await.json();
    assert_eq!(all["workflows"], json!([]));
}
