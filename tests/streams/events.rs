//! Events that come by their own streams, and hooks that go to every group.

use serde_json::json;

use crate::kit::{eventually, order};
use crate::{product, result, server};

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_event_without_a_message_id_has_that_of_its_entry() {
    let (server, line) = server().await;
    for _ in 0..2 {
        line.publish("order.created", &[("body", &order("ORD-3").to_string())]).await.unwrap();
    }
    eventually("both have completed", || async {
        let list = "/api/v1/workflow/list?workflow=order&status=completed";
        let list = server.client().get(list).await.json();
        (list["workflows"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
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
