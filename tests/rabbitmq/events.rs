//! Events that come by the broker, under their own names as routing keys.

use crate::kit::{eventually, order};
use crate::{server, shared};

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
