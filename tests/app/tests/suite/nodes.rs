//! Several nodes on one Redis, as clients notice them: any node answers for any instance, whichever
//! works on it, and none is missed when it dies.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::socket::{Socket, assert_gapless};
use crate::kit::{Redis, Reply, Server, Service, eventually};
use crate::redis::store;
use crate::{kill, server};

/// Leases that end soon, so that tests need not wait for them.
fn shared(redis: &Redis) -> String {
    store(redis).replace("port:", "lease: 1500ms, port:")
}

async fn nodes_of(node: &Server) -> Vec<Value> {
    node.client().get("/health").await.json()["nodes"].as_array().cloned().unwrap_or_default()
}

/// Whether it is recorded that the process which ran its step has gone.
async fn has_lost_its_attempt(node: &Server, id: &str) -> bool {
    let history = node.client().get(&format!("/api/v1/workflow/{id}/history")).await.json();
    let events = |row: &Value| row["events"].as_array().cloned().unwrap_or_default();
    history["rows"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(events)
        .any(|event| event["type"] == "task_lost")
}

/// Two nodes that know each other.
async fn two(config: &str) -> (Server, Server) {
    let (a, b) = (server(config), server(config));
    for node in [&a, &b] {
        eventually("the nodes do not see each other", async || {
            (nodes_of(node).await.len() == 2).then_some(())
        })
        .await;
    }
    (a, b)
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn any_node_takes_what_is_about_an_instance_of_another() {
    let redis = Redis::start();
    let service = Service::start(|task| match task["step_type"].as_str() {
        Some("prepare") => Reply::Done(json!({"size": 3})),
        _ => Reply::Later,
    })
    .await;
    let (a, b) =
        two(&format!("{}{}", service.config(&["prepare", "finish"]), shared(&redis))).await;
    // A completion. Again it is a duplicate, at either node.
    let work = a.client().start("/api/v1/workflow/work", &json!({"item": "i"})).await;
    service.task("finish", 1).await;
    assert_eq!(b.client().complete(&work, "finish", &json!({"label": "L"})).await.status, 200);
    assert_eq!(a.client().until(&work, "completed").await["output"], json!({"label": "L"}));
    for node in [&a, &b] {
        let again = node.client().complete(&work, "finish", &json!({"label": "L"})).await;
        assert_eq!(
            (again.status, again.text("status").as_str()),
            (200, "duplicate"),
            "{:?}",
            again.body
        );
        assert_eq!(
            node.client().complete(&work, "finish", &json!({"label": "M"})).await.status,
            409
        );
    }
    // An event.
    let approval = a.client().start("/api/v1/workflow/approval", &json!({"orderId": "o-1"})).await;
    a.client().until(&approval, "waiting").await;
    let event =
        json!({"type": "order.approved", "id": "e-1", "data": {"orderId": "o-1", "by": "me"}});
    assert_eq!(b.client().post("/api/v1/events", &event).await.status, 202);
    assert_eq!(a.client().until(&approval, "completed").await["output"], json!({"by": "me"}));
    // A command to an instance whose step runs in the other process: it is that one that must
    // receive of it.
    let question =
        a.client().start("/api/v1/workflow/question", &json!({"question": "6 * 7"})).await;
    a.client().until(&question, "processing").await;
    let cancel = b.client().post(&format!("/api/v1/workflow/{question}/cancel"), &json!({})).await;
    assert_eq!(cancel.status, 200, "{:?}", cancel.body);
    b.client().until(&question, "cancelled").await;
}

/// Whichever node takes them: the one whose answer has come before the next is sent comes first.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn events_about_one_thing_that_different_nodes_take_are_received_in_their_order() {
    const COUNT: i64 = 40;
    let redis = Redis::start();
    let (a, b) = two(&shared(&redis)).await;
    let id = a.client().start("/api/v1/workflow/letters", &json!({"chain": "c"})).await;
    a.client().until(&id, "waiting").await;
    for number in 1..=COUNT {
        let letter = json!({"type": "letter.came", "data": {"chain": "c", "number": number, "last": number == COUNT}});
        let node = if number % 3 == 0 { &a } else { &b };
        assert_eq!(node.client().post("/api/v1/events", &letter).await.status, 202);
    }
    let document = b.client().until(&id, "completed").await;
    let rounds = document["definition"]["steps"][0]["definition"]["steps"][0]["instances"]
        .as_array()
        .unwrap();
    let received: Vec<i64> =
        rounds.iter().map(|round| round["output"]["number"].as_i64().unwrap()).collect();
    assert_eq!(received, (1..=COUNT).collect::<Vec<_>>());
    // The wait that comes next sees what the one before has seen, too: the oldest that is kept.
    assert_eq!(document["output"], json!({"again": 1}));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_wait_for_the_end_is_answered_by_the_node_that_works() {
    let redis = Redis::start();
    let (a, b) = two(&shared(&redis)).await;
    let id = a.client().start("/api/v1/workflow/letters", &json!({"chain": "c"})).await;
    a.client().until(&id, "waiting").await;
    let mut follower = Socket::follow(&b, &id).await;
    let mut messages = Vec::new();
    // Each is sent when the follower has received the one before.
    for number in 1..=3 {
        let letter = json!({"type": "letter.came", "data": {"chain": "c", "number": number, "last": number == 3}});
        assert_eq!(a.client().post("/api/v1/events", &letter).await.status, 202);
        // The last one's comes with the end.
        let mut has_come = number == 3;
        while !has_come {
            let message = follower.next().await.expect("it goes on");
            has_come = message["type"] == "event_received";
            messages.push(message);
        }
    }
    messages.extend(follower.rest().await);
    assert_gapless(&messages, 0);
    assert_eq!(follower.closed, Some(1000));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_a_dead_node_was_to_wake_and_what_ran_in_it_goes_on_at_another() {
    let redis = Redis::start();
    let (mut a, b) = two(&shared(&redis)).await;
    let mut naps = Vec::new();
    for _ in 0..20 {
        naps.push(a.client().start("/api/v1/workflow/nap", &json!({"nap": "2s"})).await);
    }
    let question =
        a.client().start("/api/v1/workflow/question", &json!({"question": "6 * 7"})).await;
    a.client().until(&question, "processing").await;
    a.kill();
    for nap in &naps {
        let document = b.client().until(nap, "completed").await;
        assert_eq!(document["output"], json!({"said": "good morning"}));
    }
    // The attempt died with its process; it is tried again here.
    eventually("the lost attempt is not made again", async || {
        has_lost_its_attempt(&b, &question).await.then_some(())
    })
    .await;
    eventually("the dead node is still listed", async || {
        (nodes_of(&b).await.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn nodes_are_shown_with_what_they_run() {
    let redis = Redis::start();
    let (a, b) = two(&shared(&redis)).await;
    let said = a.run(&["status", "--nodes"]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text} {}", String::from_utf8_lossy(&said.stderr));
    for node in [&a, &b] {
        assert!(
            text.contains(node.url()) && text.contains(&format!("process {}", node.pid())),
            "{text}"
        );
    }
    let node = &nodes_of(&b).await[0];
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert!(
        node["definitions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|definition| definition["workflow"] == "double"),
        "{node:#}"
    );
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_node_that_stood_still_for_longer_than_its_lease_does_no_harm() {
    let redis = Redis::start();
    let (a, b) = two(&shared(&redis)).await;
    let question =
        a.client().start("/api/v1/workflow/question", &json!({"question": "6 * 7"})).await;
    a.client().until(&question, "processing").await;
    a.pause(true);
    eventually("nobody takes over", async || {
        has_lost_its_attempt(&b, &question).await.then_some(())
    })
    .await;
    a.pause(false);
    eventually("the nodes do not see each other again", async || {
        (nodes_of(&a).await.len() == 2).then_some(())
    })
    .await;
    // Both are at work, and agree, as soon as the one knows that its lease was over; until then it
    // refuses.
    eventually("the node does not work again", async || {
        let cancel = a.client().tell(&question, "cancel", &json!({})).await;
        assert!(
            cancel.status == 200
                || (cancel.status, cancel.problem().as_str()) == (503, "store-unavailable"),
            "{:?}",
            cancel.body
        );
        (cancel.status == 200).then_some(())
    })
    .await;
    a.client().until(&question, "cancelled").await;
    let double = a.client().start("/api/v1/workflow/double", &json!({"number": 21})).await;
    assert_eq!(b.client().until(&double, "completed").await["output"], json!({"number": 84}));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_step_longer_than_a_lease_is_one_attempt() {
    let redis = Redis::start();
    let service = Service::start(|task| match task["step_type"].as_str() {
        Some("prepare") => Reply::Done(json!({"size": 3})),
        _ => Reply::After(Duration::from_secs(4), Box::new(Reply::Done(json!({"label": "L"})))),
    })
    .await;
    let (a, b) =
        two(&format!("{}{}", service.config(&["prepare", "finish"]), shared(&redis))).await;
    let work = a.client().start("/api/v1/workflow/work", &json!({"item": "i"})).await;
    let question =
        a.client().start("/api/v1/workflow/question", &json!({"question": "6 * 7"})).await;
    a.client().until(&question, "processing").await;
    a.client().until(&work, "completed").await;
    for node in [&a, &b] {
        assert!(!has_lost_its_attempt(node, &question).await, "it was taken for lost");
        let document = node.client().status(&question).await;
        assert_eq!(document["definition"]["steps"][0]["attempts"], 1, "{document:#}");
        assert_eq!(node.client().until(&work, "completed").await["output"], json!({"label": "L"}));
    }
    assert_eq!(service.tasks().len(), 2, "a task was sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn nothing_acknowledged_is_lost_when_one_node_after_the_other_is_killed() {
    let redis = Redis::start();
    kill::kill_again_and_again(&shared(&redis), 3, 9).await;
}
