//! Events from outside.

use hyper::Method;
use serde_json::json;

use crate::kit::{Server, eventually};
use crate::server;

const EVENTS: &str = "/api/v1/events";
const TRIGGER: &str = "/api/v1/workflow/approval";

#[tokio::test]
async fn an_event_reaches_the_instance_that_waits_for_it_and_no_other() {
    let server = server("");
    let client = server.client();
    let (one, two) = (
        client.start(TRIGGER, &json!({"orderId": "1"})).await,
        client.start(TRIGGER, &json!({"orderId": "2"})).await,
    );
    let document = client.until(&one, "waiting").await;
    assert_eq!(document["current_steps"][0]["waits_for"], "the event order.approved with `1`");
    let event =
        json!({"type": "order.approved", "id": "e-1", "data": {"orderId": "1", "by": "Ann"}});
    let answer = client.post(EVENTS, &event).await;
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({"type": "order.approved", "id": "e-1", "duplicate": false}))
    );
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
    client
        .post(EVENTS, &json!({"type": "order.approved", "data": {"orderId": "early", "by": "Bob"}}))
        .await;
    let id = client.start(TRIGGER, &json!({"orderId": "early"})).await;
    assert_eq!(client.until(&id, "completed").await["output"], json!({"by": "Bob"}));
}

#[tokio::test]
async fn a_wrong_event_is_refused_with_its_field() {
    let server = server("");
    let client = server.client();
    let answer = client.post(EVENTS, &json!({"type": "order.aproved", "data": {}})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (404, "unknown-event"));
    assert!(
        answer.text("detail").contains("did you mean `order.approved`?"),
        "{}",
        answer.text("detail")
    );
    let answer =
        client.post(EVENTS, &json!({"type": "order.approved", "data": {"orderId": "1"}})).await;
    assert_eq!(
        (answer.status, answer.problem().as_str(), answer.field().as_str()),
        (422, "invalid-input", "data.by")
    );
    let answer = client.post(EVENTS, &json!({"data": {}})).await;
    assert_eq!((answer.status, answer.field().as_str()), (400, "type"));
}

#[tokio::test]
async fn a_list_of_events_is_answered_one_by_one() {
    let server = server("");
    let client = server.client();
    let good =
        |order: &str| json!({"type": "order.approved", "data": {"orderId": order, "by": "Ann"}});
    let answer = client.post(EVENTS, &json!([good("1"), good("2")])).await;
    assert_eq!((answer.status, answer.json()["events"].as_array().unwrap().len()), (202, 2));
    let answer =
        client.post(EVENTS, &json!([good("3"), {"type": "order.approved", "data": {}}])).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.json()["events"][1]["error"]["field"], "data.orderId", "{:?}", answer.body);
    let answer = client.post(EVENTS, &json!([good("4"), {"type": 5}])).await;
    assert_eq!((answer.status, answer.field().as_str()), (400, "[1].type"));
    assert_eq!(client.post(EVENTS, &json!([])).await.status, 400);
}

/// By a waiting instance, also where nobody else could read all of it; or it is refused.
#[tokio::test]
async fn an_event_that_was_taken_reaches_its_wait_whatever_else_it_holds() {
    let server = server("");
    let client = server.client();
    let extras = [
        r#""note":"great \ud83d""#.to_owned(),
        r#""\udc00":1"#.to_owned(),
        r#""weight":1e400"#.to_owned(),
        format!(r#""serial":{}"#, "9".repeat(400)),
    ];
    for (n, extra) in extras.iter().enumerate() {
        let id = client.start(TRIGGER, &json!({"orderId": format!("odd-{n}")})).await;
        client.until(&id, "waiting").await;
        let event = format!(
            r#"{{"type":"order.approved","data":{{"orderId":"odd-{n}","by":"Ann",{extra}}}}}"#
        );
        let answer = client
            .send(Method::POST, EVENTS, &[("content-type", "application/json")], event.into_bytes())
            .await;
        match answer.status {
            // Not every reader of JSON takes the document, which shows the event as it came.
            202 => {
                eventually("it completes", || async {
                    let answer =
                        client.get(&format!("/api/v1/workflow/status?workflow_id={id}")).await;
                    String::from_utf8_lossy(&answer.body)
                        .contains(r#""status":"completed""#)
                        .then_some(())
                })
                .await;
            }
            status => assert!((400..500).contains(&status), "{extra}: {status}"),
        }
    }
}

#[tokio::test]
async fn events_about_one_thing_are_received_in_the_order_in_which_they_were_taken() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/letters", &json!({"chain": "c"})).await;
    client.until(&id, "waiting").await;
    const COUNT: i64 = 40;
    let letter = |number: i64| json!({"type": "letter.came", "data": {"chain": "c", "number": number, "last": number == COUNT}});
    for number in 1..=COUNT {
        // In the middle some come while nothing may move.
        if number == 10 {
            assert_eq!(client.tell(&id, "pause", &json!({})).await.status, 200);
        }
        if number == 20 {
            assert_eq!(client.tell(&id, "resume", &json!({})).await.status, 200);
        }
        assert_eq!(client.post(EVENTS, &letter(number)).await.status, 202);
    }
    let document = client.until(&id, "completed").await;
    let rounds = document["definition"]["steps"][0]["definition"]["steps"][0]["instances"]
        .as_array()
        .unwrap();
    let received: Vec<i64> =
        rounds.iter().map(|round| round["output"]["number"].as_i64().unwrap()).collect();
    assert_eq!(received, (1..=COUNT).collect::<Vec<_>>());
    // Another wait begins with the oldest that is kept.
    assert_eq!(document["output"], json!({"again": 1}));
}

/// What another build has started, as the store shows it; and back.
pub(crate) fn swap_definition(server: &Server, from: &str, to: &str) {
    let file = rusqlite::Connection::open(server.folder().join("crux.db")).unwrap();
    assert_eq!(
        file.execute("UPDATE kind SET definition = ?2 WHERE definition = ?1", [from, to]).unwrap(),
        1
    );
    assert!(
        file.execute("UPDATE journal SET body = replace(body, ?1, ?2)", [from, to]).unwrap() > 0
    );
    file.execute("UPDATE OR REPLACE definition SET hash = ?2 WHERE hash = ?1", [from, to]).unwrap();
}

#[tokio::test]
async fn what_lacks_its_definition_is_reported_and_gets_its_event_when_the_definition_is_there() {
    let mut server = server("");
    let id = server.client().start(TRIGGER, &json!({"orderId": "gone"})).await;
    let hash =
        server.client().until(&id, "waiting").await["definition_hash"].as_str().unwrap().to_owned();
    let other = "f".repeat(hash.len());
    let stop = |server: &mut Server| {
        server.tell_to_end();
        assert!(server.ended().success());
    };
    stop(&mut server);
    swap_definition(&server, &hash, &other);
    server.restart();

    let client = server.client();
    let event =
        json!({"type": "order.approved", "id": "e-gone", "data": {"orderId": "gone", "by": "Ann"}});
    assert_eq!(client.post(EVENTS, &event).await.status, 202);
    let waits =
        client.status(&id).await["current_steps"][0]["waits_for"].as_str().unwrap().to_owned();
    assert!(
        waits.starts_with("definition ffffffffffff of `approval` version 1 is not in this binary"),
        "{waits}"
    );
    assert!(waits.contains(&hash[..12]), "the other one of the same version is not named: {waits}");
    let health = eventually("health tells of it", || async {
        let health = client.get("/health").await.json();
        (health["status"] == "degraded").then_some(health)
    })
    .await;
    assert_eq!(
        health["definitions"]["missing"],
        json!([{"workflow": "approval", "version": 1, "definition": other, "instances": 1}])
    );
    let metrics = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("crux_instances_without_definition{")
                && line.ends_with(" 1")),
        "{metrics}"
    );
    let log = server.log();
    assert!(
        log.lines().any(|line| line.contains("WARN")
            && line.contains("instances=1")
            && line.contains("approval")),
        "{log}"
    );
    eventually("the event is known to be left", || async {
        server.log().contains("the event is kept until").then_some(())
    })
    .await;

    stop(&mut server);
    swap_definition(&server, &other, &hash);
    server.restart();
    let client = server.client();
    assert_eq!(client.until(&id, "completed").await["output"], json!({"by": "Ann"}));
    assert_eq!(
        client.get("/health").await.json()["definitions"],
        json!({"status": "ok", "problem": "", "missing": []})
    );
}
