//! Starting instances, once and again.

use serde_json::json;

use crate::server;

const TRIGGER: &str = "/api/v1/workflow/double";

#[tokio::test]
async fn a_start_is_answered_as_clients_know_it_and_ends() {
    let server = server("");
    let client = server.client();
    let answer = client.post(TRIGGER, &json!({"number": 3, "unknown": [1]})).await;
    assert_eq!(answer.status, 202);
    let body = answer.json();
    assert_eq!(
        (&body["status"], &body["message"]),
        (&json!("processing"), &json!("Workflow started successfully"))
    );
    let id = answer.text("workflow_id");
    assert_eq!(
        answer.header("location"),
        Some(format!("/api/v1/workflow/status?workflow_id={id}").as_str())
    );
    let document = client.until(&id, "completed").await;
    assert_eq!(document["output"], json!({"number": 12}));
    assert_eq!(
        document["data"]["payload"],
        json!({"number": 3, "unknown": [1]}),
        "fields that nobody knows are kept"
    );
}

#[tokio::test]
async fn with_wait_the_answer_is_the_document() {
    let server = server("");
    let answer = server.client().post(&format!("{TRIGGER}?wait=30s"), &json!({"number": 1})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        (&answer.json()["metadata"]["status"], &answer.json()["output"]),
        (&json!("completed"), &json!({"number": 4}))
    );
}

#[tokio::test]
async fn a_wait_that_is_over_is_answered_like_a_start() {
    let server = server("");
    let client = server.client();
    let answer = client.post("/api/v1/workflow/nap?wait=100ms", &json!({"nap": "1h"})).await;
    assert_eq!((answer.status, answer.text("status").as_str()), (202, "processing"));
    for (wait, word) in [("30", "is not a valid duration"), ("1d", "at most 5m")] {
        let answer = client.post(&format!("{TRIGGER}?wait={wait}"), &json!({"number": 1})).await;
        assert_eq!(
            (answer.problem().as_str(), answer.field().as_str()),
            ("invalid-request", "wait")
        );
        assert!(answer.text("detail").contains(word), "{}", answer.text("detail"));
    }
}

#[tokio::test]
async fn a_missing_field_is_named() {
    let server = server("");
    let answer = server.client().post(TRIGGER, &json!({"note": "x"})).await;
    assert_eq!(
        (answer.status, answer.problem().as_str(), answer.field().as_str()),
        (422, "invalid-input", "number")
    );
}

#[tokio::test]
async fn a_wrong_type_is_named_with_its_field() {
    let server = server("");
    let client = server.client();
    for wrong in [json!("3"), json!(3.5), json!(null), json!([3])] {
        let answer = client.post(TRIGGER, &json!({"number": wrong})).await;
        assert_eq!(
            (answer.status, answer.problem().as_str(), answer.field().as_str()),
            (422, "invalid-input", "number"),
            "{wrong}"
        );
    }
    assert_eq!(client.post(TRIGGER, &json!([1])).await.problem(), "invalid-input");
    assert_eq!(
        client.get("/api/v1/workflow/list").await.json()["workflows"],
        json!([]),
        "nothing was started"
    );
}

#[tokio::test]
async fn the_same_request_id_gets_the_first_answer_again() {
    let server = server("");
    let client = server.client();
    let headers = [("idempotency-key", "req-1")];
    let first = client.post_with(TRIGGER, &headers, &json!({"number": 1})).await;
    assert_eq!(first.header("idempotent-replay"), None);
    let again = client.post_with(TRIGGER, &headers, &json!({"number": 1})).await;
    assert_eq!((again.status, again.header("idempotent-replay")), (202, Some("true")));
    assert_eq!(again.text("workflow_id"), first.text("workflow_id"));
    // Also in the body, and also when it has ended.
    client.until(&first.text("workflow_id"), "completed").await;
    let again =
        client.post_with(&format!("{TRIGGER}?wait=5s"), &headers, &json!({"number": 1})).await;
    assert_eq!((again.status, again.header("idempotent-replay")), (200, Some("true")));
    let body = json!({"number": 1, "request_id": "req-2"});
    let ids = [client.start(TRIGGER, &body).await, client.start(TRIGGER, &body).await];
    assert_eq!(ids[0], ids[1]);
    assert_eq!(client.status(&ids[0]).await["data"]["request_id"], "req-2");
}

#[tokio::test]
async fn the_same_request_id_with_another_payload_is_a_conflict() {
    let server = server("");
    let client = server.client();
    let headers = [("idempotency-key", "req-1")];
    client.post_with(TRIGGER, &headers, &json!({"number": 1})).await;
    let answer = client.post_with(TRIGGER, &headers, &json!({"number": 2})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "conflict"));
    // White space and the order of fields are not another payload.
    let raw = b"{ \"number\" : 1 }".to_vec();
    let all = [("content-type", "application/json"), headers[0]];
    assert_eq!(client.send(hyper::Method::POST, TRIGGER, &all, raw).await.status, 202);
}

#[tokio::test]
async fn many_concurrent_requests_with_one_id_start_one_instance() {
    let server = server("");
    let client = server.client();
    let body = json!({"number": 1, "request_id": "storm"});
    let answers =
        futures_util::future::join_all((0..50).map(|_| client.start(TRIGGER, &body))).await;
    assert!(answers.iter().all(|id| *id == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn a_request_id_that_is_too_long_is_refused() {
    let server = server("");
    let answer =
        server.client().post(TRIGGER, &json!({"number": 1, "request_id": "x".repeat(256)})).await;
    assert_eq!((answer.status, answer.field().as_str()), (400, "request_id"));
}

#[tokio::test]
async fn a_trigger_whose_condition_does_not_hold_starts_nothing() {
    let server = server("");
    let client = server.client();
    let answer = client.post("/api/v1/workflow/trip", &json!({"city": "Atlantis"})).await;
    assert_eq!(
        (answer.status, answer.text("status").as_str(), answer.text("workflow_id").as_str()),
        (200, "ignored", "")
    );
    assert_eq!(client.get("/api/v1/workflow/list").await.json()["workflows"], json!([]));
    // Its key is the request id.
    let ids = [client.start("/api/v1/workflow/trip", &json!({"city": "Rome"})).await, {
        client.start("/api/v1/workflow/trip", &json!({"city": "Rome"})).await
    }];
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_step_that_fails_or_panics_says_so() {
    let server = server("");
    let client = server.client();
    let failed = client.post(&format!("{TRIGGER}?wait=30s"), &json!({"number": 13})).await.json();
    assert_eq!(
        (&failed["metadata"]["status"], &failed["error"]),
        (&json!("failed"), &json!("13 brings bad luck"))
    );
    let panicked = client.post(&format!("{TRIGGER}?wait=30s"), &json!({"number": -1})).await.json();
    assert_eq!(
        (&panicked["metadata"]["status"], &panicked["error_name"]),
        (&json!("failed"), &json!("Panic"))
    );
}

#[tokio::test]
async fn lists_come_in_pages_newest_first() {
    let server = server("");
    let client = server.client();
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(client.start(TRIGGER, &json!({"number": number})).await);
        // Ids made within one millisecond are in no order.
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    ids.reverse();
    for id in &ids {
        client.until(id, "completed").await;
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = client
            .get(&format!(
                "/api/v1/workflow/list?limit=2&workflow=double&status=completed&after={after}"
            ))
            .await
            .json();
        seen.extend(
            page["workflows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["workflow_id"].as_str().unwrap().to_owned()),
        );
        after = page["next"].as_str().unwrap().to_owned();
        if after.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ids);
    assert_eq!(
        client.get("/api/v1/workflow/list?status=failed").await.json()["workflows"],
        json!([])
    );
    for (query, field) in [
        ("status=complete", "status"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("after=x", "after"),
        ("worklow=x", "worklow"),
    ] {
        let answer = client.get(&format!("/api/v1/workflow/list?{query}")).await;
        assert_eq!((answer.status, answer.field().as_str()), (400, field), "{query}");
    }
}
