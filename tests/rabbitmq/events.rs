//! Events that come by the broker, under their own names as routing keys.

use serde_json::json;

use crate::kit::{eventually, order};
use crate::service::header;
use crate::{server, shared};

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
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
#[ignore = "needs rabbitmq-server"]
async fn an_event_of_the_wrong_shape_is_dead_lettered() {
    let broker = shared().await;
    let (server, line) = server(&broker).await;
    line.publish("order.created", "event-1", json!("what is this").to_string().as_bytes()).await;
    let buried = line.next(&format!("{}.dead", line.exchange)).await;
    assert_eq!(header(&buried, "x-crux-queue"), format!("{}.events", line.exchange));
    assert!(!header(&buried, "x-crux-reason").is_empty());
    let all = server.client().get("/api/v1/workflow/list").await.json();
    assert_eq!(all["workflows"], json!([]));
}

/// `examples/publisher.rs` as it is, but for its command line.
#[path = "../../examples/publisher.rs"]
mod publisher;

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn the_publisher_of_the_examples_starts_orders_once_each() {
    let broker = shared().await;
    let (server, line) = server(&broker).await;
    let url = format!("{}%2f", broker.url());
    let publisher = publisher::Publisher::connect(&url, &line.exchange).await.unwrap();
    for _ in 0..2 {
        for order_id in ["ORD-1", "ORD-2"] {
            publisher
                .publish("order.created", &format!("order.created/{order_id}"), &order(order_id))
                .await
                .unwrap();
        }
    }
    let client = server.client();
    eventually("both have completed", || async {
        let list = client.get("/api/v1/workflow/list?workflow=order&status=completed").await.json();
        (list["workflows"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    eventually("the repetitions have been taken", || async {
        (line.waiting(&format!("{}.events", line.exchange)).await == 0).then_some(())
    })
    .await;
    assert_eq!(
        client.get("/api/v1/workflow/list").await.json()["workflows"].as_array().unwrap().len(),
        2
    );
    // A message that no queue takes is an error of its publisher.
    let error = publisher.publish("order.creatd", "e-1", &order("ORD-3")).await.unwrap_err();
    assert!(error.to_string().contains("no queue takes such events"), "{error}");
}
