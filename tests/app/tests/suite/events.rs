//! Events from outside.

use serde_json::json;

use crate::server;

const EVENTS: &str = "/api/v1/events";
const TRIGGER: &str = "/api/v1/workflow/approval";

#[tokio::test]
async fn an_event_reaches_the_instance_that_waits_for_it_and_no_other() {
    let server = server("");
    let client = server.client();
    let (one, two) = (client.start(TRIGGER, &json!({"orderId": "1"})).await, client.start(TRIGGER, &json!({"orderId": "2"})).await);
    let document = client.until(&one, "waiting").await;
    assert_eq!(document["current_steps"][0]["waits_for"], "the event order.approved with `1`");
    let event = json!({"type": "order.approved", "id": "e-1", "data": {"orderId": "1", "by": "Ann"}});
    let answer = client.post(EVENTS, &event).await;
    assert_eq!((answer.status, answer.json()), (202, json!({"type": "order.approved", "id": "e-1", "duplicate": false})));
    let document = client.until(&one, "completed").await;
    assert_eq!(document["output"], json!({"by": "Ann"}));
    assert_eq!(document["definition"]["steps"][0]["output"], json!({"orderId": "1", "by": "Ann"}));
    assert_eq!(client.status(&two).await["metadata"]["status"], "waiting");
    assert_eq!(client.post(EVENTS, &event).await.json()["duplicate"], true);
}

#[tokio::test]
async fn an_event_that_comes_before_its_wait_counts() {
    let server = server("");
    let client = server.client();
    client.post(EVENTS, &json!({"type": "order.approved", "data": {"orderId": "early", "by": "Bob"}})).await;
    let id = client.start(TRIGGER, &json!({"orderId": "early"})).await;
    assert_eq!(client.until(&id, "completed").await["output"], json!({"by": "Bob"}));
}

#[tokio::test]
async fn a_wrong_event_is_refused_with_its_field() {
    let server = server("");
    let client = server.client();
    let answer = client.post(EVENTS, &json!({"type": "order.aproved", "data": {}})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (404, "unknown-event"));
    assert!(answer.text("detail").contains("did you mean `order.approved`?"), "{}", answer.text("detail"));
    let answer = client.post(EVENTS, &json!({"type": "order.approved", "data": {"orderId": "1"}})).await;
    assert_eq!((answer.status, answer.problem().as_str(), answer.field().as_str()), (422, "invalid-input", "data.by"));
    let answer = client.post(EVENTS, &json!({"data": {}})).await;
    assert_eq!((answer.status, answer.field().as_str()), (400, "type"));
}

#[tokio::test]
async fn a_list_of_events_is_answered_one_by_one() {
    let server = server("");
    let client = server.client();
    let good = |order: &str| json!({"type": "order.approved", "data": {"orderId": order, "by": "Ann"}});
    let answer = client.post(EVENTS, &json!([good("1"), good("2")])).await;
    assert_eq!((answer.status, answer.json()["events"].as_array().unwrap().len()), (202, 2));
    let answer = client.post(EVENTS, &json!([good("3"), {"type": "order.approved", "data": {}}])).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.json()["events"][1]["error"]["field"], "data.orderId", "{:?}", answer.body);
    let answer = client.post(EVENTS, &json!([good("4"), {"type": 5}])).await;
    assert_eq!((answer.status, answer.field().as_str()), (400, "[1].type"));
    assert_eq!(client.post(EVENTS, &json!([])).await.status, 400);
}
