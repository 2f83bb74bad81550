//! What is refused before it means anything.

use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kit::Answer;
use crate::server;

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post_raw(headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let server = server("");
    server.client().send(Method::POST, "/api/v1/workflow/double", headers, body).await
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    for body in ["", "{", "number=1", "{\"number\": 1} x", "\u{feff}{}"] {
        let answer = post_raw(&[JSON], body.as_bytes().to_vec()).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "not-json"), "{body:?}");
    }
    let answer = post_raw(&[JSON], b"{\"note\": \"\xff\"}".to_vec()).await;
    assert_eq!(answer.problem(), "not-json");
}

#[tokio::test]
async fn a_body_of_another_content_type_is_refused() {
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
    ] {
        let answer = post_raw(headers, b"{\"number\": 1}".to_vec()).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (415, "unsupported-media-type"),
            "{headers:?}"
        );
    }
    let answer = post_raw(
        &[("content-type", "application/json; charset=utf-8")],
        b"{\"number\": 1}".to_vec(),
    )
    .await;
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn a_body_of_10_mb_is_refused_and_the_server_goes_on() {
    let server = server("");
    let client = server.client();
    let mut body = b"{\"number\": 1, \"note\": \"".to_vec();
    body.resize(10 << 20, b'x');
    let answer = client.send(Method::POST, "/api/v1/workflow/double", &[JSON], body).await;
    assert_eq!((answer.status, answer.problem().as_str()), (413, "too-large"));
    assert_eq!(client.post("/api/v1/workflow/double", &json!({"number": 1})).await.status, 202);
}

#[tokio::test]
async fn bodies_that_do_not_come_to_an_end_take_no_more_room_than_is_kept_for_them() {
    let server = server("limits: { max_body_size: 1MiB, max_buffered_bodies: 1MiB }");
    let begin = async || {
        let mut peer = TcpStream::connect(server.address()).await.unwrap();
        let head = "POST /api/v1/workflow/double HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n";
        peer.write_all(head.as_bytes()).await.unwrap();
        // One of the two is hung up on meanwhile.
        let _ = peer.write_all(&[b' '; 700_000]).await;
        peer
    };
    let (mut one, mut other) = (begin().await, begin().await);
    let (mut answer, mut no_answer) = (String::new(), String::new());
    // Whichever of them came too late for the room that there is.
    let first = tokio::select! {
        read = one.read_to_string(&mut answer) => { read.unwrap(); other }
        read = other.read_to_string(&mut no_answer) => { read.unwrap(); one }
    };
    answer.push_str(&no_answer);
    assert!(
        answer.starts_with("HTTP/1.1 429")
            && answer.contains("overloaded")
            && answer.contains("retry-after: 1"),
        "{answer}"
    );
    // What is small finds room.
    let client = server.client();
    assert_eq!(client.post("/api/v1/workflow/double", &json!({"number": 1})).await.status, 202);
    drop(first);
    let note = "x".repeat(700_000);
    crate::kit::eventually("there is room again", async || {
        let answer =
            client.post("/api/v1/workflow/double", &json!({"number": 1, "note": note})).await;
        (answer.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hundred_thousand_levels_of_nesting_are_refused() {
    let server = server("");
    let client = server.client();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let body = format!(
            "{{\"number\": 1, \"note\": {}1{}}}",
            open.repeat(100_000),
            close.repeat(100_000)
        );
        let answer =
            client.send(Method::POST, "/api/v1/workflow/double", &[JSON], body.into_bytes()).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "too-deep"));
    }
    assert_eq!(client.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn a_request_for_another_host_is_refused() {
    let server = server("");
    let answer = server
        .client()
        .send(Method::GET, "/health", &[("host", "rebound.example")], Vec::new())
        .await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "host-not-allowed"));
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_unless_it_is_configured() {
    let server = server("server: { origins: ['http://localhost:5173'] }");
    let client = server.client();
    let from = async |origin: &str| {
        client.send(Method::GET, "/api/v1/workflow/list", &[("origin", origin)], Vec::new()).await
    };
    let answer = from("http://evil.example").await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "origin-not-allowed"));
    let answer = from("http://localhost:5173").await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, Some("http://localhost:5173"))
    );
    let own = server.url().to_owned();
    assert_eq!(from(&own).await.status, 200);
    let preflight = client
        .send(Method::OPTIONS, "/api/v1/events", &[("origin", "http://localhost:5173")], Vec::new())
        .await;
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-methods")),
        (204, Some("GET, POST"))
    );
}

#[tokio::test]
async fn a_forwarded_request_is_refused() {
    let server = server("");
    let answer = server
        .client()
        .send(Method::GET, "/health", &[("x-forwarded-for", "10.0.0.1")], Vec::new())
        .await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "forwarded-refused"));
}

#[tokio::test]
async fn an_unknown_route_says_which_was_probably_meant() {
    let server = server("");
    let client = server.client();
    let answer = client.get("/api/v1/workflow/statu?workflow_id=1").await;
    assert_eq!((answer.status, answer.problem().as_str()), (404, "not-found"));
    assert!(
        answer.text("detail").contains("did you mean `/api/v1/workflow/status`?"),
        "{}",
        answer.text("detail")
    );
    let answer = client.post("/api/v1/workflow/duoble", &json!({})).await;
    assert!(
        answer.text("detail").contains("did you mean `/api/v1/workflow/double`?"),
        "{}",
        answer.text("detail")
    );
}

#[tokio::test]
async fn a_wrong_method_says_the_right_one() {
    let server = server("");
    let client = server.client();
    let answer = client.get("/api/v1/workflow/double").await;
    assert_eq!((answer.status, answer.problem().as_str()), (405, "method-not-allowed"));
    assert_eq!(answer.header("allow"), Some("POST"));
    let answer = client.post("/api/v1/workflow/list", &json!({})).await;
    assert!(answer.text("detail").ends_with("use GET"), "{}", answer.text("detail"));
}

#[tokio::test]
async fn a_correlation_id_is_kept_answered_and_logged() {
    let server = server("");
    let headers = [JSON, ("x-correlation-id", "from-the-client-1")];
    let answer = server
        .client()
        .send(Method::POST, "/api/v1/workflow/double", &headers, b"{}".to_vec())
        .await;
    assert_eq!(answer.header("x-correlation-id"), Some("from-the-client-1"));
    assert_eq!(answer.text("correlation_id"), "from-the-client-1");
    server.logged(&["from-the-client-1"]).await;
}
