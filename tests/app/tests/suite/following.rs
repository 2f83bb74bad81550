//! Following one instance: WebSocket and server-sent events.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::socket::{assert_gapless, types};
use crate::kit::{Reply, Service, Socket};
use crate::server;

#[tokio::test]
async fn a_follower_gets_everything_from_the_beginning_and_is_closed_at_the_end() {
    let service = Service::start(|_| Reply::Later).await;
    let server = server(&service.config(&["prepare", "finish"]));
    let client = server.client();
    let id = client.start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    let task = service.task("prepare", 1).await;
    let mut socket = Socket::follow(&server, &id).await;
    let begun = [socket.next().await.unwrap(), socket.next().await.unwrap()];
    assert_eq!(types(&begun), ["workflow_started", "step_dispatched"]);
    assert_eq!(begun[1]["data"]["step_id"], task["step_id"], "the bare id, as in the task");
    client.complete(&id, "prepare", &json!({"size": 1})).await;
    let live = [socket.next().await.unwrap(), socket.next().await.unwrap()];
    assert_eq!(types(&live), ["step_completed", "step_dispatched"]);
    assert_eq!(live[0]["data"]["result"], json!({"size": 1}));
    client.complete(&id, "finish", &json!({"label": "L"})).await;
    let rest = socket.rest().await;
    assert_eq!(types(&rest), ["step_completed", "workflow_completed"]);
    assert_eq!(rest[1]["data"]["output"], json!({"label": "L"}));
    assert_eq!(socket.closed, Some(1000));
    let all: Vec<Value> = begun.into_iter().chain(live).chain(rest).collect();
    assert_gapless(&all, 0);
}

#[tokio::test]
async fn an_instance_that_has_ended_is_replayed_whole() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/double", &json!({"number": 1})).await;
    client.until(&id, "completed").await;
    let mut socket = Socket::follow(&server, &id).await;
    let messages = socket.rest().await;
    assert_gapless(&messages, 0);
    let expected = [
        "workflow_started",
        "step_dispatched",
        "step_completed",
        "step_dispatched",
        "step_completed",
        "workflow_completed",
    ];
    assert_eq!((types(&messages), socket.closed), (expected.to_vec(), Some(1000)));
}

#[tokio::test]
async fn a_failure_is_a_text() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/double", &json!({"number": 13})).await;
    let messages = Socket::follow(&server, &id).await.rest().await;
    let last = messages.last().unwrap();
    assert_eq!(
        (&last["type"], &last["data"]["error"]),
        (&json!("workflow_failed"), &json!("13 brings bad luck"))
    );
}

#[tokio::test]
async fn after_resumes_behind_whole_rows() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/double", &json!({"number": 1})).await;
    client.until(&id, "completed").await;
    let all = Socket::follow(&server, &id).await.rest().await;
    let last = all.last().unwrap()["seq"].as_u64().unwrap();
    for after in 0..=last {
        let mut socket = Socket::open(&server, &format!("?workflow_id={id}&after={after}")).await;
        let rest = socket.rest().await;
        assert_gapless(&rest, after);
        let expected: Vec<Value> =
            all.iter().filter(|message| message["seq"].as_u64() > Some(after)).cloned().collect();
        assert_eq!((rest, socket.closed), (expected, Some(1000)), "after {after}");
    }
}

#[tokio::test]
async fn an_unknown_instance_is_an_answer_before_the_upgrade() {
    let server = server("");
    let stranger = "?workflow_id=0199b0a4-5a3c-7d21-9f0e-3b1d5a7c2e44";
    assert_eq!(Socket::try_open(&server, stranger).await.err(), Some(404));
    assert_eq!(Socket::try_open(&server, "?workflow_id=uuid-here").await.err(), Some(400));
    assert_eq!(Socket::try_open(&server, "?workflow=x").await.err(), Some(400));
    assert_eq!(Socket::try_open(&server, "?after=3").await.err(), Some(400));
}

#[tokio::test]
async fn a_row_that_is_not_there_yet_cannot_be_followed_after() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    client.until(&id, "waiting").await;
    assert_eq!(
        Socket::try_open(&server, &format!("?workflow_id={id}&after=99")).await.err(),
        Some(400)
    );
    let answer = client.get(&format!("/api/v1/workflow/{id}/events?after=99")).await;
    assert_eq!(
        (answer.status, answer.problem().as_str(), answer.field().as_str()),
        (400, "invalid-request", "after")
    );
    let mut gateway = Socket::open(&server, "").await;
    let answer = gateway
        .ask(&json!({"type": "subscribe", "id": 1, "workflow_id": id, "after": u64::MAX}))
        .await;
    assert_eq!(answer["error"]["field"], "after", "{answer}");
}

#[tokio::test]
async fn followers_that_come_at_any_moment_miss_nothing() {
    let server = server("");
    let client = server.client();
    let sockets: Vec<_> = (0..40)
        .map(|number| {
            let (client, server) = (&client, &server);
            async move {
                let id =
                    client.start("/api/v1/workflow/double", &json!({"number": 100 + number})).await;
                // Some come while it runs, some after its end.
                tokio::time::sleep(Duration::from_micros(number * 300)).await;
                let mut socket = Socket::follow(server, &id).await;
                (socket.rest().await, socket.closed)
            }
        })
        .collect();
    for (messages, closed) in futures_util::future::join_all(sockets).await {
        assert_gapless(&messages, 0);
        assert_eq!(
            (messages.last().unwrap()["type"].as_str(), closed),
            (Some("workflow_completed"), Some(1000))
        );
    }
}

#[tokio::test]
async fn many_followers_of_one_instance_all_receive_everything() {
    let service = Service::start(|_| Reply::Later).await;
    let server = server(&service.config(&["prepare", "finish"]));
    let client = server.client();
    let id = client.start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    let mut sockets = Vec::new();
    for _ in 0..200 {
        sockets.push(Socket::follow(&server, &id).await);
    }
    client.complete(&id, "prepare", &json!({"size": 1})).await;
    client.complete(&id, "finish", &json!({"label": "L"})).await;
    for socket in &mut sockets {
        let messages = socket.rest().await;
        assert_gapless(&messages, 0);
        assert_eq!(
            (messages.last().unwrap()["type"].as_str(), socket.closed),
            (Some("workflow_completed"), Some(1000))
        );
    }
}

#[tokio::test]
async fn a_follower_comes_back_after_a_crash_and_misses_nothing() {
    let service = Service::start(|_| Reply::Later).await;
    let mut server = server(&service.config(&["prepare", "finish"]));
    let id = server.client().start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    let mut socket = Socket::follow(&server, &id).await;
    let before = [socket.next().await.unwrap(), socket.next().await.unwrap()];
    server.kill();
    assert_eq!(socket.next().await, None);
    server.restart();
    let client = server.client();
    client.complete(&id, "prepare", &json!({"size": 1})).await;
    client.complete(&id, "finish", &json!({"label": "L"})).await;
    let mut socket =
        Socket::open(&server, &format!("?workflow_id={id}&after={}", before[1]["seq"])).await;
    let all: Vec<Value> = before.into_iter().chain(socket.rest().await).collect();
    assert_gapless(&all, 0);
    assert_eq!(all.last().unwrap()["type"], "workflow_completed");
}

#[tokio::test]
async fn server_sent_events_are_the_same_messages() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/double", &json!({"number": 1})).await;
    client.until(&id, "completed").await;
    let path = format!("/api/v1/workflow/{id}/events");
    let answer = client.get(&path).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let messages: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(messages, Socket::follow(&server, &id).await.rest().await);
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    // A browser that reconnects after the end gets the answer to stop.
    let headers = [("last-event-id", "3")];
    assert_eq!(client.send(hyper::Method::GET, &path, &headers, Vec::new()).await.status, 204);
}
