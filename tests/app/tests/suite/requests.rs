//! What is the same request, and what is taken from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Method;
use serde_json::{Value, json};

use crate::kit::{Gate, Reply, Service, Socket, eventually};
use crate::server;

const TALLY: &str = "/api/v1/workflow/tally";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn counted() -> Reply {
    Reply::Done(json!({"goods": {"z": 1, "b": 2, "a": 3}, "total": 6}))
}

/// By REST with and without request ids, by the gateway, by the command line and by an event.
#[tokio::test]
async fn a_triggers_key_decides_which_instance_a_start_means_whichever_way_it_comes() {
    let service = Service::start(|_| counted()).await;
    let server = server(&service.config(&["count"]));
    let client = server.client();
    let input = json!({"number": "N-1", "goods": {"z": 1}, "limit": 1});
    let first = client.post_with(TALLY, &[("idempotency-key", "k-1")], &input).await;
    let id = first.text("workflow_id");
    let again = client.post_with(TALLY, &[("idempotency-key", "k-2")], &input).await;
    assert_eq!(
        (again.text("workflow_id"), again.header("idempotent-replay")),
        (id.clone(), Some("true"))
    );
    assert_eq!(client.status(&id).await["data"]["request_id"], "N-1");

    let mut socket = Socket::open(&server, "").await;
    let start = |number: &str, request_id: &str| {
        let input = json!({"number": number, "goods": {"z": 1}, "limit": 1});
        json!({"type": "start", "id": 1, "workflow": "tally", "input": input, "request_id": request_id})
    };
    let answer = socket.ask(&start("N-1", "k-3")).await;
    assert_eq!(
        (&answer["data"]["workflow_id"], &answer["data"]["replayed"]),
        (&json!(id), &json!(true))
    );
    let answer = socket.ask(&start("none", "k-4")).await;
    assert_eq!(
        (&answer["data"]["status"], &answer["data"]["workflow_id"]),
        (&json!("ignored"), &json!(""))
    );

    let said =
        server.run(&["start", "tally", "--input", &input.to_string(), "--request-id", "k-5"]);
    assert_eq!(
        String::from_utf8_lossy(&said.stdout).trim(),
        id,
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let said = server.run(&["start", "tally", "--input", r#"{"number": "none", "goods": {}}"#]);
    assert_eq!((said.status.code(), said.stdout.len()), (Some(1), 0));
    assert!(
        String::from_utf8_lossy(&said.stderr).contains("nothing was started"),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );

    let event =
        json!({"type": "tally.wanted", "id": "e-1", "data": {"of": "N-1", "goods": {"z": 1}}});
    assert_eq!(client.post("/api/v1/events", &event).await.status, 202);
    let event = json!({"type": "tally.wanted", "id": "e-2", "data": {"of": "N-2", "goods": {}}});
    assert_eq!(client.post("/api/v1/events", &event).await.status, 202);
    let list = eventually("the second event has started one", || async {
        let list = client.get("/api/v1/workflow/list").await.json()["workflows"]
            .as_array()
            .unwrap()
            .clone();
        list.iter().any(|instance| instance["workflow_id"] != id.as_str()).then_some(list)
    })
    .await;
    assert_eq!(list.len(), 2, "{list:?}");
    // Another input under the same key.
    let other = client.post(TALLY, &json!({"number": "N-1", "goods": {"z": 2}})).await;
    assert_eq!((other.status, other.problem().as_str()), (409, "conflict"));
}

/// Some of it in fields that nobody reads.
#[tokio::test]
async fn what_could_not_be_read_again_is_refused_at_every_door_with_its_place() {
    let service = Service::start(|task| match task["input"]["number"].as_str() {
        Some("wide") => {
            Reply::Raw(200, r#"{"success":true,"result":{"goods":{},"total":1e400}}"#.to_owned())
        }
        Some("half") => Reply::Raw(
            200,
            r#"{"success":true,"result":{"goods":{},"total":1,"note":"\ud83d"}}"#.to_owned(),
        ),
        _ => Reply::Later,
    })
    .await;
    let server = server(&service.config(&["count"]));
    let client = server.client();
    let mut socket = Socket::open(&server, "").await;
    let post = async |path: &str, body: String| {
        client
            .send(Method::POST, path, &[("content-type", "application/json")], body.into_bytes())
            .await
    };
    let id = client.start(TALLY, &json!({"number": "later", "goods": {}})).await;
    let nested = format!("{}1{}", "[".repeat(150), "]".repeat(150));
    for (wrong, problem, field) in [
        (r#""great \ud83d""#, "not-json", true),
        ("1e400", "not-json", true),
        (&"9".repeat(400), "not-json", true),
        (&nested, "too-deep", false),
    ] {
        let at = |path: &str| if field { path.to_owned() } else { String::new() };
        let answer = post(TALLY, format!(r#"{{"number":"a","goods":{{}},"note":{wrong}}}"#)).await;
        assert_eq!(
            (answer.status, answer.problem().as_str(), answer.field()),
            (400, problem, at("note"))
        );
        let answer = post(
            "/api/v1/events",
            format!(
                r#"{{"type":"tally.wanted","data":{{"of":"b","goods":{{}},"x":[0,{wrong}]}}}}"#
            ),
        )
        .await;
        assert_eq!(
            (answer.status, answer.problem().as_str(), answer.field()),
            (400, problem, at("data.x[1]"))
        );
        let body = format!(
            r#"{{"workflow_id":"{id}","step_id":"count","success":true,"result":{{"goods":{{}},"total":1,"x":{wrong}}}}}"#
        );
        let answer = post("/api/v1/workflow/step-completed", body).await;
        assert_eq!(
            (answer.status, answer.problem().as_str(), answer.field()),
            (400, problem, at("result.x"))
        );
        let text = format!(
            r#"{{"type":"start","id":1,"workflow":"tally","input":{{"number":"c","goods":{{}},"x":{wrong}}}}}"#
        );
        socket.send_text(&text).await;
        let answer = socket.next().await.expect("an answer");
        assert_eq!(answer["error"]["type"], format!("urn:crux:problem:{problem}"), "{answer}");
        let said = server.run(&[
            "start",
            "tally",
            "--input",
            &format!(r#"{{"number":"d","goods":{{}},"x":{wrong}}}"#),
        ]);
        assert_eq!(said.status.code(), Some(2), "{}", String::from_utf8_lossy(&said.stderr));
    }
    assert_eq!(
        client.get("/api/v1/workflow/list").await.json()["workflows"].as_array().unwrap().len(),
        1
    );
    for number in ["wide", "half"] {
        let document = client
            .post(&format!("{TALLY}?wait=30s"), &json!({"number": number, "goods": {}}))
            .await
            .json();
        assert_eq!(
            (&document["metadata"]["status"], &document["error_name"]),
            (&json!("failed"), &json!("InvalidResult")),
            "{document}"
        );
    }
}

#[tokio::test]
async fn inputs_that_differ_in_any_digit_are_other_inputs_and_bounds_count_every_digit() {
    let service = Service::start(|_| Reply::Later).await;
    let server = server(&service.config(&["count"]));
    let client = server.client();
    let post = async |number: &str, more: &str| {
        let body = format!(r#"{{"number":"{number}","goods":{{}},{more}}}"#);
        client
            .send(Method::POST, TALLY, &[("content-type", "application/json")], body.into_bytes())
            .await
    };
    assert_eq!(post("big", r#""extra":123456789012345678901"#).await.status, 202);
    assert_eq!(post("big", r#""extra":123456789012345678902"#).await.status, 409);
    let again = post("big", r#" "extra" : 123456789012345678901"#).await;
    assert_eq!((again.status, again.header("idempotent-replay")), (202, Some("true")));
    for (number, limit, status) in [
        ("a", "9007199254740992", 202),
        ("b", "9007199254740993", 422),
        ("c", "1.0", 202),
        ("d", "1.5", 422),
    ] {
        let answer = post(number, &format!(r#""limit":{limit}"#)).await;
        assert_eq!(answer.status, status, "{limit}: {:?}", answer.body);
    }
    // As it was typed.
    server.run(&[
        "start",
        "tally",
        "--input",
        r#"{"number": "typed", "goods": {}, "extra": 123456789012345678901}"#,
    ]);
    eventually("all three have their tasks", || async {
        (service.tasks().len() >= 3).then_some(())
    })
    .await;
    eventually("the command line's input comes whole", || async {
        let typed = post("typed", r#""extra":123456789012345678901"#).await;
        (typed.header("idempotent-replay") == Some("true")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_id_that_is_no_text_is_refused_rather_than_passed_by() {
    let server = server("");
    let answer = server
        .client()
        .post("/api/v1/workflow/double", &json!({"number": 1, "request_id": 5}))
        .await;
    assert_eq!((answer.status, answer.field().as_str()), (400, "request_id"));
    assert_eq!(server.client().get("/api/v1/workflow/list").await.json()["workflows"], json!([]));
}

#[tokio::test]
async fn maps_keep_their_order_through_steps() {
    let service =
        Service::start(|task| Reply::Done(json!({"goods": task["input"]["goods"], "total": 6})))
            .await;
    let server = server(&service.config(&["count"]));
    let goods = r#""goods":{"z":1,"b":2,"a":3}"#;
    let body = format!(r#"{{"number":"m",{goods}}}"#);
    let path = format!("{TALLY}?wait=30s");
    let answer = server
        .client()
        .send(Method::POST, &path, &[("content-type", "application/json")], body.into_bytes())
        .await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let output = text.rsplit_once(r#""output":"#).unwrap().1;
    assert!(output.starts_with(&format!("{{{goods}")), "{output}");
}

/// One customer's task is turned away forever; the others are done.
#[tokio::test]
async fn a_task_that_is_turned_away_again_and_again_holds_up_no_other() {
    let service = Service::start(|task| {
        if task["input"]["number"] == "poison" { Reply::Raw(503, String::new()) } else { counted() }
    })
    .await;
    let server = server(&service.config(&["count"]));
    let client = server.client();
    let poison = client.start(TALLY, &json!({"number": "poison", "goods": {}})).await;
    eventually("it is turned away", || async { (!service.tasks().is_empty()).then_some(()) }).await;
    for number in 0..5 {
        let document = client
            .post(&format!("{TALLY}?wait=30s"), &json!({"number": number.to_string(), "goods": {}}))
            .await
            .json();
        assert_eq!(document["metadata"]["status"], "completed", "{document}");
    }
    // Behind the pauses of the first one, each would come after a try of it.
    let tasks = service.tasks();
    let is_poison = |task: &Value| task["input"]["number"] == "poison";
    let together = tasks.windows(2).any(|two| two.iter().all(|task| !is_poison(task)));
    assert!(together, "{tasks:#?}");
    let why =
        client.status(&poison).await["current_steps"][0]["waits_for"].as_str().unwrap().to_owned();
    assert!(why.contains("503"), "{why}");
}

/// A token that has run out must not undo all that runs.
#[tokio::test]
async fn a_service_that_does_not_know_us_is_unavailable_or_asked_later_if_the_configuration_says_so()
 {
    let knows = Arc::new(AtomicBool::new(false));
    let known = knows.clone();
    let service = Service::start(move |_| {
        if known.load(Ordering::Relaxed) { counted() } else { Reply::Raw(401, String::new()) }
    })
    .await;
    let document = {
        let server = server(&service.config(&["count"]));
        server
            .client()
            .post(&format!("{TALLY}?wait=30s"), &json!({"number": "1", "goods": {}}))
            .await
            .json()
    };
    assert_eq!(
        (&document["error_name"], &document["definition"]["steps"][0]["attempts"]),
        (&json!("Unavailable"), &json!(3))
    );

    let config = format!(
        "services:\n  test: {{ url: '{}', steps: [count], statuses: {{ 401: later }} }}\n",
        service.url()
    );
    let server = server(&config);
    let client = server.client();
    let id = client.start(TALLY, &json!({"number": "1", "goods": {}})).await;
    eventually("the reason is shown", || async {
        let document = client.status(&id).await;
        document["current_steps"][0]["waits_for"]
            .as_str()
            .is_some_and(|why| why.contains("401"))
            .then_some(())
    })
    .await;
    knows.store(true, Ordering::Relaxed);
    let document = client.until(&id, "completed").await;
    assert_eq!(document["definition"]["steps"][0]["attempts"], 1);
}

/// To what an event or the gateway starts.
#[tokio::test]
async fn a_trace_goes_on_in_what_an_event_or_the_gateway_starts() {
    let service = Service::start(|_| counted()).await;
    let server = server(&service.config(&["count"]));
    let client = server.client();
    let event = json!({"type": "tally.wanted", "id": "e-1", "data": {"of": "N-1", "goods": {}}});
    client.post_with("/api/v1/events", &[("traceparent", TRACE)], &event).await;
    let mut socket = Socket::open(&server, "").await;
    let event = json!({"type": "tally.wanted", "id": "e-2", "data": {"of": "N-2", "goods": {}}});
    socket.ask(&json!({"type": "event", "id": 1, "event": event, "traceparent": TRACE})).await;
    let input = json!({"number": "N-3", "goods": {}});
    socket.ask(&json!({"type": "start", "id": 2, "workflow": "tally", "input": input, "traceparent": TRACE})).await;
    eventually("three tasks", || async { (service.tasks().len() == 3).then_some(()) }).await;
    assert_eq!(service.headers("traceparent"), [TRACE; 3]);
    let mut ids = service.headers("x-correlation-id");
    ids.sort();
    assert_eq!(ids, ["N-1", "N-2", "N-3"]);
}

#[tokio::test]
async fn without_a_request_id_the_instances_own_id_correlates() {
    let service = Service::start(|_| Reply::Later).await;
    let server = server(&service.config(&["prepare"]));
    let id = server.client().start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    service.task("prepare", 1).await;
    assert_eq!(service.headers("x-correlation-id"), [id]);
}

/// The name of a failure in another language's form is no reason to give up.
#[tokio::test]
async fn a_failure_with_a_foreign_name_is_a_failure_like_any_other() {
    let service = Service::start(|task| match task["attempt"].as_u64() {
        Some(1) => Reply::Failed(
            json!({"name": "java.io.IOException", "message": "no route", "after": "soon"}),
        ),
        _ => counted(),
    })
    .await;
    let server = server(&service.config(&["count"]));
    let document = server
        .client()
        .post(&format!("{TALLY}?wait=30s"), &json!({"number": "1", "goods": {}}))
        .await
        .json();
    let step: &Value = &document["definition"]["steps"][0];
    assert_eq!(
        (&document["metadata"]["status"], &step["attempts"]),
        (&json!("completed"), &json!(2))
    );
}

/// A field that is misspelt has the default of the right one, and nobody would learn of it.
#[tokio::test]
async fn fields_that_the_input_does_not_have_are_named_or_refused() {
    let server = server("");
    let client = server.client();
    let double = "/api/v1/workflow/double";
    let answer = client.post(double, &json!({"number": 1, "nunber": 2, "request_id": "r"})).await;
    let warning = "`nunber` is not a field of the input: it is kept, and no step sees it; did you mean `number`?";
    assert_eq!((answer.status, &answer.json()["warnings"]), (202, &json!([warning])));
    let answer =
        client.post(&format!("{double}?wait=30s"), &json!({"number": 1, "nunber": 2})).await;
    assert_eq!(
        (answer.status, answer.header("warning")),
        (200, Some(format!("299 crux \"{warning}\"").as_str()))
    );
    let answer = client.post(double, &json!({"number": 1, "request_id": "s"})).await;
    assert!(answer.json().get("warnings").is_none() && answer.header("warning").is_none());
    let said = server.run(&["start", "double", "--input", r#"{"number": 1, "nunber": 2}"#]);
    assert_eq!(String::from_utf8_lossy(&said.stderr).trim(), format!("warning: {warning}"));
    // `additional: false`
    let answer = client.post("/api/v1/workflow/nap", &json!({"nap": "1s", "npa": "2s"})).await;
    assert_eq!(
        (answer.status, answer.problem().as_str(), answer.field()),
        (422, "invalid-input", "npa".to_owned())
    );
    let mut socket = Socket::open(&server, "").await;
    let answer = socket.ask(&json!({"type": "start", "id": 1, "workflow": "nap", "input": {"nap": "1s", "npa": "2s"}})).await;
    assert_eq!((&answer["ok"], &answer["error"]["field"]), (&json!(false), &json!("input.npa")));
}

/// As the page says: kept events count for whatever waits for the same.
#[tokio::test]
async fn what_a_restarted_instance_waits_for_may_be_there_already() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/approval", &json!({"orderId": "o-1"})).await;
    let event =
        json!({"type": "order.approved", "id": "e-1", "data": {"orderId": "o-1", "by": "ada"}});
    assert_eq!(client.post("/api/v1/events", &event).await.status, 202);
    client.until(&id, "completed").await;
    let again = client
        .post(&format!("/api/v1/workflow/{id}/restart"), &json!({}))
        .await
        .text("workflow_id");
    assert_ne!(again, id);
    client.until(&again, "completed").await;
}

/// As the page says: by when they were begun, not by when they were done.
#[tokio::test]
async fn branches_are_undone_in_the_order_in_which_they_were_begun_newest_first() {
    let gate = Gate::closed();
    let first_ends = gate.clone();
    let service = Service::start(move |task| {
        let done = Reply::Done(json!({}));
        if task["step_type"] == "begin_one" {
            Reply::When(first_ends.clone(), Box::new(done))
        } else {
            done
        }
    })
    .await;
    let server = server(&service.config(&["begin_one", "begin_two", "end_one", "end_two"]));
    let client = server.client();
    let id = client.start("/api/v1/workflow/sides", &json!({})).await;
    eventually("the second is done first", || async {
        let history = client.get(&format!("/api/v1/workflow/{id}/history")).await.json();
        history.to_string().contains("step_completed").then_some(())
    })
    .await;
    gate.open();
    let document = client.until(&id, "failed").await;
    assert_eq!(document["error_name"], "Enough", "{document}");
    let types: Vec<String> =
        service.tasks().iter().map(|task| task["step_type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types[2..], ["end_two", "end_one"], "{types:?}");
}
