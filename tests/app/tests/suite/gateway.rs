//! The gateway: one socket for many things.

use serde_json::json;

use crate::kit::socket::{Data, OpCode, assert_gapless, types};
use crate::kit::{Reply, Service, Socket};
use crate::server;

#[tokio::test]
async fn answers_repeat_the_id_of_their_request() {
    let server = server("");
    let mut socket = Socket::open(&server, "").await;
    for id in [json!(1), json!("b"), json!({"any": ["thing"]})] {
        let answer = socket.ask(&json!({"type": "start", "id": id, "workflow": "double", "input": {"number": 1}, "wait": "30s"})).await;
        assert_eq!((&answer["ok"], &answer["data"]["status"]), (&json!(true), &json!("completed")));
        assert_eq!(answer["data"]["document"]["output"], json!({"number": 4}));
    }
}

/// Clients that know servers with passwords begin like this.
#[tokio::test]
async fn a_client_that_authenticates_first_learns_who_it_is_and_goes_on() {
    let server = server("");
    let mut socket = Socket::open(&server, "?token=abc").await;
    let answer =
        socket.ask(&json!({"type": "auth", "id": 1, "client_id": "shop", "key": "secret"})).await;
    let roles = ["start", "read", "complete", "operate", "admin"];
    assert_eq!(
        answer,
        json!({"type": "answer", "id": 1, "ok": true, "data": {"client_id": "", "authenticated": false, "roles": roles}})
    );
    let started = socket.ask(&json!({"type": "start", "id": 2, "workflow": "double", "input": {"number": 1}, "wait": "30s"})).await;
    assert_eq!(started["data"]["status"], "completed");
}

#[tokio::test]
async fn wrong_requests_are_answered_and_the_socket_stays_open() {
    let server = server("");
    let mut socket = Socket::open(&server, "").await;
    for (request, problem, field) in [
        (json!({"type": "strat", "id": 1}), "invalid-request", "type"),
        (json!({"type": "start", "id": 2}), "invalid-request", "workflow"),
        (
            json!({"type": "start", "id": 3, "workflow": "doubel", "input": {}}),
            "unknown-workflow",
            "",
        ),
        (
            json!({"type": "start", "id": 4, "workflow": "double", "input": {}}),
            "invalid-input",
            "input.number",
        ),
        (
            json!({"type": "subscribe", "id": 5, "workflow_id": "x"}),
            "invalid-request",
            "workflow_id",
        ),
        (
            json!({"type": "subscribe", "id": 6, "workflow_id": "0199b0a4-5a3c-7d21-9f0e-3b1d5a7c2e44"}),
            "unknown-instance",
            "",
        ),
        (
            json!({"type": "event", "id": 7, "event": {"type": "nothing.known"}}),
            "unknown-event",
            "",
        ),
    ] {
        let answer = socket.ask(&request).await;
        assert_eq!(answer["ok"], false);
        assert_eq!(answer["error"]["type"], format!("urn:crux:problem:{problem}"), "{request}");
        assert_eq!(answer["error"]["field"].as_str().unwrap_or_default(), field, "{request}");
        assert!(answer["error"]["correlation_id"].as_str().is_some_and(|id| !id.is_empty()));
    }
}

#[tokio::test]
async fn the_id_is_repeated_whatever_else_is_wrong() {
    let server = server("");
    let mut socket = Socket::open(&server, "").await;
    for (request, field) in [
        (json!({"id": 1}), "type"),
        (json!({"id": "two", "type": 5}), "type"),
        (json!({"id": 3, "type": "subscribe"}), "workflow_id"),
        (json!({"id": 4, "type": "start", "workflow": 7}), "workflow"),
        (json!({"id": 5, "type": "event", "event": []}), "event"),
    ] {
        let answer = socket.ask(&request).await;
        assert_eq!(
            (&answer["ok"], answer["error"]["field"].as_str()),
            (&json!(false), Some(field)),
            "{request}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_closed_connection_has_a_reason() {
    let server = server("limits: { max_body_size: 64KiB }");
    for (opcode, payload, code) in [
        (OpCode::Data(Data::Text), vec![b'x'; 2 << 20], 1009),
        (OpCode::Data(Data::Text), b"{\"type\": \"\xff\"}".to_vec(), 1007),
        (OpCode::Data(Data::Reserved(3)), b"{}".to_vec(), 1002),
        (OpCode::Data(Data::Binary), b"{}".to_vec(), 1003),
    ] {
        let mut socket = Socket::open(&server, "").await;
        socket.send_frame(opcode, payload).await;
        assert_eq!((socket.next().await, socket.closed), (None, Some(code)));
    }
}

#[tokio::test]
async fn starts_that_wait_leave_room_for_other_requests_up_to_a_number() {
    let server = server("");
    let mut socket = Socket::open(&server, "").await;
    for id in 0..1_001 {
        socket.send(&json!({"type": "start", "id": id, "workflow": "nap", "input": {"nap": "1h"}, "wait": "5m"})).await;
    }
    // Only the one that is too many is answered before its time.
    let refused = socket.next().await.unwrap();
    assert_eq!(refused["error"]["type"], "urn:crux:problem:limit-exceeded", "{refused}");
    let answer = socket.ask(&json!({"type": "auth", "id": "after them"})).await;
    assert_eq!(answer["ok"], true, "{answer}");
}

#[tokio::test]
async fn a_subscription_is_whole_and_ends_with_a_word() {
    let service = Service::start(|_| Reply::Later).await;
    let server = server(&service.config(&["prepare", "finish"]));
    let mut socket = Socket::open(&server, "").await;
    let started = socket
        .ask(&json!({"type": "start", "id": 1, "workflow": "work", "input": {"item": "cup"}}))
        .await;
    let id = started["data"]["workflow_id"].as_str().unwrap().to_owned();
    let answer = socket.ask(&json!({"type": "subscribe", "id": 2, "workflow_id": id})).await;
    assert_eq!(answer["data"], json!({"workflow_id": id, "after": 0}));
    service.task("prepare", 1).await;
    socket
        .send(&json!({"type": "complete_step", "id": 3, "workflow_id": id, "step_id": "prepare", "success": true, "result": {"size": 1}}))
        .await;
    // Requests of one socket are handled concurrently: the second is for a step that is open only
    // after the first.
    service.task("finish", 1).await;
    socket.send(&json!({"type": "complete_step", "id": 4, "workflow_id": id, "step_id": "finish", "success": false, "error": "no"})).await;
    let (mut messages, mut answers, mut ended) = (Vec::new(), Vec::new(), false);
    // The answer to the last request and the end of what it brought about come in either order.
    while !ended || answers.len() < 2 {
        let message = socket.next().await.expect("a message");
        match message["type"].as_str() {
            Some("answer") => answers.push(message),
            Some("unsubscribed") => {
                assert_eq!(
                    (&message["workflow_id"], &message["data"]["reason"]),
                    (&json!(id), &json!("ended"))
                );
                ended = true;
            }
            _ => messages.push(message),
        }
    }
    assert_gapless(&messages, 0);
    assert_eq!(types(&messages).last(), Some(&"workflow_failed"));
    assert_eq!(answers.len(), 2, "{answers:?}");
}

#[tokio::test]
async fn unsubscribed_is_silent_and_other_subscriptions_go_on() {
    let service = Service::start(|_| Reply::Later).await;
    let server = server(&service.config(&["prepare", "finish"]));
    let client = server.client();
    let mut socket = Socket::open(&server, "").await;
    let ids = [
        client.start("/api/v1/workflow/work", &json!({"item": "a"})).await,
        client.start("/api/v1/workflow/work", &json!({"item": "b"})).await,
    ];
    for (n, id) in ids.iter().enumerate() {
        // Only what is new.
        let after = client.status(id).await["seq"].clone();
        socket.ask(&json!({"type": "subscribe", "id": n, "workflow_id": id, "after": after})).await;
    }
    let answer =
        socket.ask(&json!({"type": "unsubscribe", "id": "u", "workflow_id": ids[0]})).await;
    assert_eq!(answer["data"]["was_subscribed"], true);
    for id in &ids {
        client.complete(id, "prepare", &json!({"size": 1})).await;
    }
    let message = socket.next().await.unwrap();
    assert_eq!(
        (&message["workflow_id"], &message["type"]),
        (&json!(ids[1]), &json!("step_completed"))
    );
}

#[tokio::test]
async fn events_go_through_the_gateway_too() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/approval", &json!({"orderId": "9"})).await;
    let mut socket = Socket::open(&server, "").await;
    let event =
        json!({"type": "order.approved", "id": "e9", "data": {"orderId": "9", "by": "Eve"}});
    let answer = socket.ask(&json!({"type": "event", "id": 1, "event": event})).await;
    assert_eq!(answer["data"], json!({"id": "e9", "duplicate": false}));
    client.until(&id, "completed").await;
}
