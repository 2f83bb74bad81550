//! Commands: cancel, retry, undo, fail, pause, resume, restart.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Client, Reply, Server, Service, eventually};
use crate::server;

const EVENTS: &str = "/api/v1/events";

/// A service in which a value of `bad` fails and any other is done.
pub async fn choosy() -> (Server, Client, Service) {
    let service = Service::start(|task| {
        let value = &task["input"]["value"];
        if value == "bad" {
            Reply::Failed(json!("cannot take this"))
        } else {
            Reply::Done(json!({"done": value}))
        }
    })
    .await;
    let server = server(&service.config(&["left", "right"]));
    let client = server.client();
    (server, client, service)
}

fn state(document: &Value, branch: usize) -> &str {
    document["definition"]["steps"][0]["definition"]["steps"][branch]["state"].as_str().unwrap()
}

#[tokio::test]
async fn one_of_two_failed_branches_gets_a_corrected_input_and_then_the_other() {
    let (_server, client, service) = choosy().await;
    let id =
        client.start("/api/v1/workflow/careful", &json!({"left": "bad", "right": "bad"})).await;
    // The first failure parks it; the other branch's attempt still runs to its end.
    client.until(&id, "parked").await;
    let document = eventually("both have failed", || async {
        let document = client.status(&id).await;
        (state(&document, 0) == "failed" && state(&document, 1) == "failed").then_some(document)
    })
    .await;
    assert_eq!(document["current_steps"].as_array().unwrap().len(), 2);
    // One input for both would be ambiguous.
    let answer = client.tell(&id, "retry", &json!({"input": {"value": "good"}})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "invalid-state"));
    let answer =
        client.tell(&id, "retry", &json!({"step_id": "both/left", "input": {"value": 7}})).await;
    assert_eq!(
        (answer.status, answer.problem().as_str(), answer.field().as_str()),
        (422, "invalid-input", "value")
    );
    assert_eq!(
        client
            .tell(&id, "retry", &json!({"step_id": "both/left", "input": {"value": "good"}}))
            .await
            .status,
        200
    );
    // As long as one of them waits for a person it is parked.
    let document = eventually("the left one is done", || async {
        let document = client.status(&id).await;
        (state(&document, 0) == "completed").then_some(document)
    })
    .await;
    assert_eq!(
        (state(&document, 1), &document["metadata"]["status"]),
        ("failed", &json!("parked"))
    );
    assert_eq!(
        client
            .tell(&id, "retry", &json!({"step_id": "both/right", "input": {"value": "better"}}))
            .await
            .status,
        200
    );
    let document = client.until(&id, "completed").await;
    assert_eq!(document["output"], json!({"left": "good", "right": "better"}));
    assert_eq!(service.tasks().len(), 4);
}

/// The others' retries are made while one waits for a person, and the document shows which is
/// which, in the order of the list.
#[tokio::test]
async fn an_element_that_waits_for_a_person_stops_no_other() {
    let service =
        Service::start(|task| match (task["input"]["name"].as_str(), task["attempt"].as_u64()) {
            (Some("nobody"), Some(1)) => {
                Reply::Failed(json!({"message": "nobody is there", "retry": false}))
            }
            (Some("shy"), _) => {
                Reply::Failed(json!({"name": "Shy", "message": "not now", "retry": false}))
            }
            (Some(name), Some(1)) if name.starts_with("late") => Reply::Failed(json!("not yet")),
            _ => Reply::Done(json!({"text": "hello"})),
        })
        .await;
    let server = server(&service.config(&["hail"]));
    let client = server.client();
    let names = ["late 1", "nobody", "shy", "late 2", "early"];
    let id = client.start("/api/v1/workflow/crowd", &json!({"names": names})).await;
    client.until(&id, "parked").await;
    let document = eventually("all others are done", || async {
        let document = client.status(&id).await;
        (document["current_steps"].as_array().unwrap().len() == 1).then_some(document)
    })
    .await;
    assert_eq!(document["metadata"]["status"], "parked", "{document:#}");
    let current = &document["current_steps"][0];
    assert_eq!(
        (&current["path"], &current["waits_for"]),
        (&json!("all[1]/hail"), &json!("a person: retry, undo or fail"))
    );
    let hail = &document["definition"]["steps"][0]["definition"]["steps"][0];
    let shown: Vec<(&str, &str)> = hail["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["path"].as_str().unwrap(), one["state"].as_str().unwrap()))
        .collect();
    let expected = [
        ("all[0]/hail", "completed"),
        ("all[1]/hail", "failed"),
        ("all[2]/hail", "failed"),
        ("all[3]/hail", "completed"),
        ("all[4]/hail", "completed"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(hail["state"], "failed");
    assert_eq!(client.tell(&id, "retry", &json!({})).await.status, 200);
    let document = client.until(&id, "completed").await;
    // What is left of failures was caught: that of one element, and not of the step as a whole.
    let steps = &document["definition"]["steps"][0];
    let hail = &steps["definition"]["steps"][0];
    assert_eq!(
        (&steps["state"], &hail["state"], &hail["error"]),
        (&json!("completed"), &json!("completed"), &json!(""))
    );
    assert_eq!(
        (&hail["instances"][2]["state"], &hail["instances"][2]["error_name"]),
        (&json!("failed"), &json!("Shy"))
    );
}

#[tokio::test]
async fn a_parked_instance_can_be_failed_or_undone_and_waits_for_neither_otherwise() {
    let (_server, client, _service) = choosy().await;
    for command in ["fail", "undo"] {
        let id = client
            .start("/api/v1/workflow/careful", &json!({"left": "bad", "right": "good"}))
            .await;
        let document = client.until(&id, "parked").await;
        assert_eq!(
            document["current_steps"][0]["waits_for"], "a person: retry, undo or fail",
            "{document:#}"
        );
        assert_eq!(client.tell(&id, command, &json!({})).await.status, 200);
        client.until(&id, "failed").await;
        let again = client.tell(&id, command, &json!({})).await;
        assert_eq!((again.status, again.problem().as_str()), (409, "invalid-state"));
    }
}

#[tokio::test]
async fn a_cancelled_instance_ends_as_cancelled() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    assert_eq!(client.tell(&id, "cancel", &json!({"reason": "not tired"})).await.status, 200);
    let document = client.until(&id, "cancelled").await;
    assert_eq!(
        (&document["error"], &document["error_name"]),
        (&json!("Cancelled: not tired"), &json!("Cancelled"))
    );
    assert_eq!(client.tell(&id, "cancel", &json!({})).await.problem(), "invalid-state");
    let answer = client.tell(&id, "cancel", &json!({"raeson": "x"})).await;
    assert_eq!((answer.status, answer.field().as_str()), (400, "raeson"));
}

/// Its task is with nobody, who could say that it is over.
#[tokio::test]
async fn an_instance_whose_task_nobody_takes_ends_when_it_is_cancelled() {
    let server = server("");
    let client = server.client();
    let input = json!({"number": "1", "goods": {}});
    let id = client.start("/api/v1/workflow/tally", &input).await;
    eventually("its task waits", async || {
        let why = client.status(&id).await["current_steps"][0]["waits_for"].to_string();
        why.contains("no service listens").then_some(())
    })
    .await;
    assert_eq!(client.tell(&id, "cancel", &json!({})).await.status, 200);
    client.until(&id, "cancelled").await;
}

#[tokio::test]
async fn a_step_struct_that_listens_ends_when_its_instance_is_cancelled() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/question", &json!({"question": "why?"})).await;
    assert_eq!(client.status(&id).await["metadata"]["status"], "processing");
    assert_eq!(client.tell(&id, "cancel", &json!({})).await.status, 200);
    client.until(&id, "cancelled").await;
    // By itself it would run for an hour.
    eventually("the step ends", || async {
        let workers = client.get("/api/v1/workers").await.json();
        let mut all = workers["workers"].as_array().unwrap().iter();
        (all.find(|worker| worker["step_type"] == "ask").unwrap()["running"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_done_is_undone_newest_first_when_a_later_step_fails() {
    let service = Service::start(|task| match task["step_type"].as_str() {
        Some("book_room") => Reply::Done(json!({"room": "12"})),
        Some("book_flight") => Reply::Failed(json!("no seat")),
        _ => Reply::Done(json!({})),
    })
    .await;
    let server = server(&service.config(&["book_room", "book_flight", "cancel_room"]));
    let client = server.client();
    let document =
        client.post("/api/v1/workflow/trip?wait=30s", &json!({"city": "Rome"})).await.json();
    assert_eq!(
        (&document["metadata"]["status"], &document["error"]),
        (&json!("failed"), &json!("no seat"))
    );
    assert_eq!(
        (&document["undo"][0]["type"], &document["undo"][0]["state"]),
        (&json!("cancel_room"), &json!("completed"))
    );
    assert_eq!(service.task("cancel_room", 1).await["input"], json!({"room": "12"}));
    assert_eq!(service.task("book_flight", 1).await["input"]["from"], "Ghent");
    // Undone: there is nothing to go on from.
    let id = document["workflow_id"].as_str().unwrap();
    let answer = client.tell(id, "retry", &json!({})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "invalid-state"));
    assert!(answer.text("detail").contains("restart"), "{}", answer.text("detail"));
    let restarted = client.tell(id, "restart", &json!({})).await;
    assert_eq!(restarted.status, 202);
    assert_ne!(restarted.text("workflow_id"), id);
    let document = client.until(&restarted.text("workflow_id"), "failed").await;
    assert_eq!(document["data"]["payload"], json!({"city": "Rome"}));
    assert_eq!(document["trigger"], format!("restart of {id}"));
}

#[tokio::test]
async fn a_running_instance_is_not_restarted() {
    let server = server("");
    let client = server.client();
    let id = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    let answer = client.tell(&id, "restart", &json!({})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "invalid-state"));
    let stranger = "0199b0a4-5a3c-7d21-9f0e-3b1d5a7c2e44";
    for command in ["cancel", "retry", "undo", "fail", "pause", "resume", "restart"] {
        assert_eq!(
            client.tell(stranger, command, &json!({})).await.problem(),
            "unknown-instance",
            "{command}"
        );
        assert_eq!(client.tell("x", command, &json!({})).await.field(), "workflow_id", "{command}");
    }
}

/// An instance that was paused before its time was over.
async fn paused(client: &Client, trigger: &str, input: &Value) -> String {
    eventually("a pause comes in time", || async {
        let id = client.start(trigger, input).await;
        (client.tell(&id, "pause", &json!({})).await.status == 200).then_some(id)
    })
    .await
}

#[tokio::test]
async fn a_timer_that_comes_due_in_a_pause_fires_on_resume() {
    let server = server("");
    let client = server.client();
    let (trigger, input) = ("/api/v1/workflow/nap", json!({"nap": "3s"}));
    let id = paused(&client, trigger, &input).await;
    assert_eq!(client.tell(&id, "pause", &json!({})).await.problem(), "invalid-state");
    // It sleeps for as long, and has begun later.
    let later = client.start(trigger, &input).await;
    client.until(&later, "completed").await;
    let document = client.until(&id, "paused").await;
    assert_eq!(document["definition"]["steps"][1]["state"], "pending", "it went on in the pause");
    assert_eq!(client.tell(&id, "resume", &json!({})).await.status, 200);
    client.until(&id, "completed").await;
    let history = client.get(&format!("/api/v1/workflow/{id}/history")).await.json();
    let times: Vec<jiff::Timestamp> = history["rows"]
        .as_array()
        .unwrap()
        .iter()
        .skip_while(|row| !row["events"].to_string().contains("resume_requested"))
        .map(|row| row["time"].as_str().unwrap().parse().unwrap())
        .collect();
    let [resumed, .., last] = times[..] else { panic!("{history:#}") };
    assert!(last.duration_since(resumed).as_millis() < 3_000, "it slept again: {history:#}");
    assert_eq!(client.tell(&id, "resume", &json!({})).await.problem(), "invalid-state");
}

#[tokio::test]
async fn a_result_that_comes_in_a_pause_is_kept() {
    let (_server, client, service) = {
        let service = Service::start(|_| Reply::Later).await;
        let server = server(&service.config(&["prepare", "finish"]));
        let client = server.client();
        (server, client, service)
    };
    let id = client.start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    service.task("prepare", 1).await;
    client.tell(&id, "pause", &json!({})).await;
    assert_eq!(
        client.complete(&id, "prepare", &json!({"size": 1})).await.text("status"),
        "accepted"
    );
    client.settled().await;
    assert_eq!(service.tasks().len(), 1, "the next step was sent in the pause");
    client.tell(&id, "resume", &json!({})).await;
    service.task("finish", 1).await;
}

/// Nothing begins by itself while a person holds it, and neither does its end.
#[tokio::test]
async fn a_deadline_that_passes_in_a_pause_counts_on_resume() {
    let server = server("");
    let client = server.client();
    let (trigger, input) = ("/api/v1/workflow/hurry", json!({"items": [], "nap": "1h"}));
    let id = paused(&client, trigger, &input).await;
    // It has as much time, and has begun later.
    let later = client.start(trigger, &input).await;
    client.until(&later, "failed").await;
    assert_eq!(client.status(&id).await["metadata"]["status"], "paused");
    assert_eq!(client.tell(&id, "resume", &json!({})).await.status, 200);
    let document = client.until(&id, "failed").await;
    assert_eq!(document["error_name"], "Timeout", "{document:#}");
}

/// A million rounds that take no time: they yield to others, and the limits hold.
#[tokio::test]
async fn rounds_that_take_no_time_keep_nobody_else_waiting_and_are_bounded() {
    let server = server("limits: { max_journal_size: 4MiB }");
    let client = server.client();
    let items: Vec<i64> = (0..100).collect();
    let id = client.start("/api/v1/workflow/hurry", &json!({"items": items, "nap": "1h"})).await;
    let document = loop {
        // A million rounds without a break take minutes.
        let answer = client.post("/api/v1/workflow/double?wait=30s", &json!({"number": 1})).await;
        assert_eq!(answer.status, 200, "it waits for the rounds");
        let list = client.get("/api/v1/workflow/list?workflow=hurry").await.json();
        if list["workflows"][0]["status"] == "parked" || list["workflows"][0]["status"] == "failed"
        {
            break client.status(&id).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let size = document.to_string().len();
    assert!(size < 8 << 20, "its document has {size} bytes");
}

/// A journal that is full stops an instance, and is no end.
#[tokio::test]
async fn an_instance_whose_journal_was_full_goes_on_when_the_limit_is_raised() {
    let mut server = server("limits: { max_journal_size: 4KiB }");
    let client = server.client();
    let id = client.start("/api/v1/workflow/letters", &json!({"chain": "c"})).await;
    let letter = |number: i64| json!({"type": "letter.came", "data": {"chain": "c", "number": number, "last": number == 60}});
    let mut number = 0;
    while client.status(&id).await["metadata"]["status"] != "parked" {
        number += 1;
        assert!(number < 60, "it has no bound");
        assert_eq!(client.post(EVENTS, &letter(number)).await.status, 202);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let document = client.status(&id).await;
    assert_eq!(document["error_name"], "JournalFull", "{document:#}");
    let answer = client.tell(&id, "retry", &json!({})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "invalid-state"));
    assert!(answer.text("detail").contains("limits.max_journal_size"), "{}", answer.text("detail"));
    server.tell_to_end();
    assert!(server.ended().success());
    let config = std::fs::read_to_string(server.folder().join("crux.yaml")).unwrap();
    std::fs::write(server.folder().join("crux.yaml"), config.replace("4KiB", "4MiB")).unwrap();
    server.restart();
    let client = server.client();
    assert_eq!(client.tell(&id, "retry", &json!({})).await.status, 200);
    for number in number + 1..=60 {
        assert_eq!(client.post(EVENTS, &letter(number)).await.status, 202);
    }
    let document = client.until(&id, "completed").await;
    let rounds = document["definition"]["steps"][0]["definition"]["steps"][0]["instances"]
        .as_array()
        .unwrap();
    assert_eq!(rounds.len(), 60);
}

/// What is done does not count: a list may be longer than the limit of rows.
#[tokio::test]
async fn rounds_and_elements_that_are_over_do_not_fill_the_journal() {
    let server = server("limits: { max_journal_events: 20 }");
    let client = server.client();
    let id = client.start("/api/v1/workflow/letters", &json!({"chain": "c"})).await;
    for number in 1..=50 {
        let event = json!({"type": "letter.came", "data": {"chain": "c", "number": number, "last": number == 50}});
        assert_eq!(client.post(EVENTS, &event).await.status, 202);
    }
    let document = client.until(&id, "completed").await;
    assert!(document["seq"].as_i64().unwrap() > 20, "{}", document["seq"]);
}

#[tokio::test]
async fn a_list_that_is_too_long_is_refused_when_the_instance_would_begin_with_it() {
    let server = server("");
    let items = vec![-1; 10_001];
    let answer =
        server.client().post("/api/v1/workflow/hurry", &json!({"items": items, "nap": "1h"})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (422, "limit-exceeded"), "{answer:?}");
    assert!(
        answer.text("detail").contains("the list has 10001 elements, the limit is 10000"),
        "{}",
        answer.text("detail")
    );
}
