//! Work goes to the live workers, and the server lists them.

use serde_json::json;

use crate::harness::Harness;
use crate::kit::eventually;

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_worker_does_the_steps_of_a_server_that_runs_none() {
    let harness = Harness::new();
    let worker = harness.worker(&["--steps", "double,timed_work", "--concurrency", "7"]);
    assert!(worker.said.ends_with("takes double, timed_work, 7 at a time\n"), "{}", worker.said);
    let client = harness.server.client();
    let answer = client.post("/api/v1/workflow/double?wait=20s", &json!({"number": 5})).await;
    assert_eq!(answer.json()["output"], json!({"number": 20}), "{:?}", answer.body);
    // Long enough for several heartbeats, which list what a worker runs.
    let id = harness.start("timed_work", 3000).await;
    harness.begun(&id, 1).await;
    let seen = eventually("the worker is listed with its attempt", async || {
        let seen = harness.workers().await;
        (seen["remote"][0]["running"] == 1).then_some(seen)
    })
    .await;
    let document = client.until(&id, "completed").await;
    assert_eq!(document["output"]["pid"], worker.pid());
    assert_eq!(
        harness.ledger(&id),
        [("begin".to_owned(), worker.pid()), ("end".to_owned(), worker.pid())]
    );
    assert_eq!(harness.events(&id).await, ["started", "step_started", "step_completed"]);
    let listed = &seen["remote"][0];
    assert_eq!(
        (&listed["steps"], &listed["concurrency"], &listed["pid"]),
        (&json!(["double", "timed_work"]), &json!(7), &json!(worker.pid()))
    );
    assert_eq!(
        (listed["version"].as_str(), &listed["is_alive"]),
        (Some(env!("CARGO_PKG_VERSION")), &json!(true))
    );
    assert!(listed["last_seen"].as_str().is_some_and(|at| at.ends_with('Z')), "{listed:#}");
    assert_eq!(
        (&seen["workers"], &seen["unserved"]),
        (&json!([]), &json!(["ask", "wake_up", "work_once"]))
    );
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_step_that_nobody_runs_says_so_and_goes_on_when_a_worker_comes() {
    let harness = Harness::new();
    let client = harness.server.client();
    let id = harness.start("timed_work", 0).await;
    let why = eventually("the reason is shown", async || {
        let why = client.status(&id).await["current_steps"][0]["waits_for"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        why.contains("no live worker").then_some(why)
    })
    .await;
    assert!(
        why.ends_with(
            "no live worker accepts tasks of `timed_work`: start one with `crux worker --steps timed_work`"
        ),
        "{why}"
    );
    let _other = harness.worker(&["--steps", "double"]);
    let worker = harness.worker(&["--steps", "timed_work"]);
    assert_eq!(client.until(&id, "completed").await["output"]["pid"], worker.pid());
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn some_steps_run_here_and_others_there() {
    let harness = Harness::with(crate::broker(), &["--steps", "double,wake_up"]);
    let worker = harness.worker(&["--steps", "all"]);
    let id = harness.start("work_once", 0).await;
    assert_eq!(
        harness.server.client().until(&id, "completed").await["output"]["pid"],
        worker.pid()
    );
    let answer = harness
        .server
        .client()
        .post("/api/v1/workflow/double?wait=20s", &json!({"number": 5}))
        .await;
    assert_eq!(answer.json()["output"], json!({"number": 20}), "{:?}", answer.body);
    let here: Vec<String> = harness.workers().await["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lane| lane["step_type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(here, ["double", "wake_up"]);
    assert_eq!(
        harness.workers().await["workers"][0]["completed"],
        2,
        "both doublings ran in the server"
    );
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn workers_share_and_none_takes_more_than_it_may() {
    let harness = Harness::new();
    let workers =
        [harness.worker(&["--concurrency", "2"]), harness.worker(&["--concurrency", "2"])];
    harness.sees(&[&workers[0], &workers[1]]).await;
    let mut ids = Vec::new();
    for n in 0..24 {
        ids.push(harness.start(if n % 3 == 0 { "work_once" } else { "timed_work" }, 150).await);
    }
    for id in &ids {
        harness.server.client().until(id, "completed").await;
        assert_eq!(harness.ledger(id).len(), 2, "each once");
    }
    harness.assert_shared(&workers, 2, 6);
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_worker_is_notified_that_nobody_waits_any_more() {
    let harness = Harness::new();
    let worker = harness.worker(&["--steps", "ask"]);
    let running = async |expected: u64| {
        eventually(&format!("{expected} run"), async || {
            (harness.workers().await["remote"][0]["running"] == expected).then_some(())
        })
        .await;
    };
    let client = harness.server.client();
    let id = client.start("/api/v1/workflow/question", &json!({"question": "What?"})).await;
    running(1).await;
    assert_eq!(client.tell(&id, "cancel", &json!({})).await.status, 200);
    running(0).await;
    assert!(client.until(&id, "cancelled").await.is_object(), "{}", worker.log());
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_type_has_its_own_limit() {
    let harness = Harness::new();
    let limit = [("CRUX_WORKERS__STEPS__TIMED_WORK__MAXIMUM", "1")];
    let workers = [
        harness.worker_with(&limit, &["--concurrency", "8"]),
        harness.worker_with(&limit, &["--concurrency", "8"]),
    ];
    harness.sees(&[&workers[0], &workers[1]]).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(harness.start("timed_work", 200).await);
    }
    for id in &ids {
        harness.server.client().until(id, "completed").await;
    }
    harness.assert_shared(&workers, 1, 3);
}
