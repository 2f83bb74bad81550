//! Workers that are attached to the server by gRPC streams, without a broker.

use std::process::Command;

use serde_json::{Value, json};

use crate::BINARY;
use crate::harness::Harness;
use crate::kit::eventually;

#[tokio::test]
async fn workers_share_the_steps_and_results_come_back() {
    let harness = Harness::without_broker();
    let workers =
        [(); 2].map(|()| harness.attached_worker(&["--concurrency", "2", "--steps", "timed_work"]));
    harness.sees_attached(2).await;
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(harness.start("timed_work", 50).await);
    }
    for id in &ids {
        harness.server.client().until(id, "completed").await;
    }
    harness.assert_shared(&workers, 2, 3);
    let attached = harness.workers().await["attached"].clone();
    let completed =
        attached.as_array().unwrap().iter().map(|one| one["completed"].as_u64().unwrap());
    assert_eq!(completed.sum::<u64>(), 12, "{attached:#}");
}

#[tokio::test]
async fn a_worker_proves_who_it_is_with_its_key() {
    let made = Command::new(BINARY)
        .args(["key", "new", "worker", "--roles", "complete", "--json"])
        .output()
        .unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let hash = made["key_sha256"].as_str().unwrap();
    let auth =
        format!("auth: {{ clients: {{ worker: {{ key_sha256: {hash}, roles: [complete] }} }} }}");
    let harness = Harness::without_broker_with(&auth);
    let connect = ["--connect", harness.server.url()];
    let stranger = harness.worker(&connect);
    eventually("the stranger is turned away", async || {
        stranger.log().contains("this server asks who calls").then_some(())
    })
    .await;
    let key = [("CRUX_API_KEY", made["key"].as_str().unwrap())];
    let worker = harness.worker_with(&key, &connect);
    eventually("the worker is attached", async || {
        worker.log().contains("attached server=").then_some(())
    })
    .await;
    assert!(!stranger.log().contains("attached server="), "{}", stranger.log());
}

#[tokio::test]
async fn what_nobody_takes_waits_and_begins_when_a_worker_is_attached() {
    let harness = Harness::without_broker();
    let id = harness.start("timed_work", 0).await;
    let client = harness.server.client();
    let why = eventually("the status says why", async || {
        let status = client.status(&id).await;
        let why = status["current_steps"][0]["waits_for"].as_str().unwrap_or_default().to_owned();
        why.contains("no worker").then_some(why)
    })
    .await;
    assert!(why.contains("no worker has the step struct `TimedWorkStep`"), "{why}");
    assert!(harness.workers().await["unserved"].to_string().contains("timed_work"));
    let worker = harness.attached_worker(&[]);
    assert_eq!(client.until(&id, "completed").await["output"]["pid"], worker.pid());
    assert_eq!(harness.workers().await["unserved"], json!([]));
}

/// Immediately: nothing waits for a heartbeat that does not come.
#[tokio::test]
async fn what_a_dead_worker_ran_is_done_by_another_immediately() {
    let harness = Harness::without_broker();
    let mut first = harness.attached_worker(&[]);
    let id = harness.start("timed_work", 1500).await;
    harness.begun(&id, 1).await;
    let second = harness.attached_worker(&[]);
    harness.sees_attached(2).await;
    first.kill();
    let document = harness.server.client().until(&id, "completed").await;
    assert_eq!(document["output"]["pid"], second.pid());
    assert_eq!(
        harness.events(&id).await,
        ["started", "step_started", "task_lost", "step_started", "step_completed"]
    );
}

#[tokio::test]
async fn what_must_not_begin_twice_does_not_and_its_outcome_is_unknown() {
    let harness = Harness::without_broker();
    let mut first = harness.attached_worker(&[]);
    let id = harness.start("work_once", 60_000).await;
    harness.begun(&id, 1).await;
    let _second = harness.attached_worker(&[]);
    harness.sees_attached(2).await;
    first.kill();
    let document = harness.server.client().until(&id, "parked").await;
    assert!(document.to_string().contains("OutcomeUnknown"), "{document:#}");
    assert_eq!(harness.ledger(&id), [("begin".to_owned(), first.pid())]);
}

#[tokio::test]
async fn a_worker_keeps_its_attempts_while_the_server_is_away() {
    let mut harness = Harness::without_broker();
    let worker = harness.attached_worker(&[]);
    let ids = [harness.start("timed_work", 4000).await, harness.start("timed_work", 700).await];
    for id in &ids {
        harness.begun(id, 1).await;
        eventually("the start is recorded", async || {
            harness.events(id).await.contains(&"step_started".to_owned()).then_some(())
        })
        .await;
    }
    let port = harness.server.port().to_string();
    harness.server.kill();
    // The second one's result is there before the server is.
    eventually("an attempt has ended", async || (harness.ledger(&ids[1]).len() == 2).then_some(()))
        .await;
    harness.server.restart_with(&["--steps", "none", "--port", &port]);
    for id in &ids {
        let document = harness.server.client().until(id, "completed").await;
        assert_eq!(document["output"]["pid"], worker.pid());
        assert_eq!(harness.ledger(id).len(), 2, "it was begun once");
        assert!(!harness.events(id).await.contains(&"task_lost".to_owned()));
    }
    // And it works on.
    let id = harness.start("timed_work", 0).await;
    harness.server.client().until(&id, "completed").await;
}

#[tokio::test]
async fn a_worker_that_shuts_down_finishes_what_it_runs_and_takes_nothing_more() {
    let harness = Harness::without_broker();
    let mut first = harness.attached_worker(&["--concurrency", "1"]);
    let running = harness.start("timed_work", 1500).await;
    harness.begun(&running, 1).await;
    let waiting = harness.start("timed_work", 0).await;
    first.tell_to_end();
    let status = first.ended().await;
    assert!(status.success(), "{status}: {}", first.log());
    let client = harness.server.client();
    assert_eq!(client.until(&running, "completed").await["output"]["pid"], first.pid());
    assert!(harness.ledger(&waiting).is_empty(), "it took another");
    let second = harness.attached_worker(&[]);
    assert_eq!(client.until(&waiting, "completed").await["output"]["pid"], second.pid());
    assert!(!harness.events(&running).await.contains(&"task_lost".to_owned()));
}

#[tokio::test]
async fn a_step_that_fails_or_is_cancelled_there_is_so_here() {
    let harness = Harness::without_broker();
    let worker = harness.attached_worker(&[]);
    let client = harness.server.client();
    let answer =
        client.post("/api/v1/workflow/double?wait=20s", &json!({"number": 13})).await.json();
    assert_eq!(answer["error"], "13 brings bad luck", "{answer:#}");
    let running = async |expected: u64| {
        eventually(&format!("{expected} run"), async || {
            (harness.workers().await["attached"][0]["running"] == expected).then_some(())
        })
        .await;
    };
    let id = client.start("/api/v1/workflow/question", &json!({"question": "What?"})).await;
    running(1).await;
    assert_eq!(client.tell(&id, "cancel", &json!({})).await.status, 200);
    running(0).await;
    assert!(client.until(&id, "cancelled").await.is_object(), "{}", worker.log());
}
