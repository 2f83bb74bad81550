//! Events that come by their own streams, and hooks that go to every group.

use serde_json::json;

use crate::kit::{eventually, order};
use crate::{product, result, server};

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_event_starts_an_instance_once_per_message_id() {
    let (server, line) = server().await;
    let client = server.client();
    let created = |id: &str| order(id).to_string();
    for _ in 0..3 {
        line.publish("order.created", &[("message_id", "event-1"), ("body", &created("ORD-1"))])
            .await
            .unwrap();
    }
    line.publish("order.created", &[("message_id", "event-2"), ("body", &created("ORD-2"))])
        .await
        .unwrap();
    // Without an id: the entry's.
    line.publish("order.created", &[("body", &created("ORD-3"))]).await.unwrap();
    let list = eventually("all have completed", || async {
        let list = client.get("/api/v1/workflow/list?workflow=order&status=completed").await.json();
        (list["workflows"].as_array().unwrap().len() >= 3).then_some(list)
    })
    .await;
    assert_eq!(list["workflows"].as_array().unwrap().len(), 3, "{list:#}");
    line.is_empty("order.created").await;
    let all = client.get("/api/v1/workflow/list").await.json();
    assert_eq!(all["workflows"].as_array().unwrap().len(), 3, "{all:#}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_event_of_the_wrong_shape_is_dead_lettered() {
    let (server, line) = server().await;
    line.publish("order.created", &[("message_id", "event-1"), ("body", "\"what is this\"")])
        .await
        .unwrap();
    let buried = line.next("dead", "people").await;
    assert_eq!(buried.text("stream"), line.stream("order.created"));
    assert!(!buried.text("reason").is_empty());
    let all = server.client().get("/api/v1/workflow/list").await.json();
    assert_eq!(all["workflows"], json!([]));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn each_group_receives_every_hook_and_only_what_all_have_acknowledged_goes() {
    let (server, line) = server().await;
    for group in ["mail", "audit"] {
        line.group("workflow.completed", group).await.unwrap();
    }
    let _services = line.services(result).await;
    let answer = server.client().post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    let id = answer.json()["workflow_id"].clone();
    let mail = line.next("workflow.completed", "mail").await;
    assert_eq!((&mail.body()["workflow_id"], &mail.body()["status"]), (&id, &json!("completed")));
    assert!(mail.text("message_id").starts_with(id.as_str().unwrap()));
    let mut ack = redis::cmd("XACK");
    ack.arg(line.stream("workflow.completed")).arg("mail").arg(&mail.id);
    line.ask(ack).await.unwrap();
    // Nobody asked for the others.
    assert_eq!(line.length("workflow.start").await, 0);
    // A tidying that comes later removes what all of its groups have acknowledged.
    line.group("workflow.start", "mail").await.unwrap();
    server.client().post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    let start = line.next("workflow.start", "mail").await;
    let mut ack = redis::cmd("XACK");
    ack.arg(line.stream("workflow.start")).arg("mail").arg(&start.id);
    line.ask(ack).await.unwrap();
    line.is_empty("workflow.start").await;
    let audit = line.next("workflow.completed", "audit").await;
    assert_eq!(audit.id, mail.id);
    let mut ack = redis::cmd("XACK");
    ack.arg(line.stream("workflow.completed")).arg("audit").arg(&audit.id);
    line.ask(ack).await.unwrap();
    // The second upload's is the only one left.
    eventually("it is removed", async || {
        (line.length("workflow.completed").await == 1).then_some(())
    })
    .await;
}
