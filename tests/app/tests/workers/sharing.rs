//! Work goes to whoever is there, and the server says who that is.

use serde_json::json;

use crate::bed::Bed;
use crate::kit::eventually;

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_worker_does_the_steps_of_a_server_that_runs_none() {
    let bed = Bed::new();
    let worker = bed.worker(&["--steps", "double,toil", "--concurrency", "7"]);
    assert!(worker.said.ends_with("takes double, toil, 7 at a time\n"), "{}", worker.said);
    let client = bed.server.client();
    let answer = client.post("/api/v1/workflow/double?wait=20s", &json!({"number": 5})).await;
    assert_eq!(answer.json()["output"], json!({"number": 20}), "{:?}", answer.body);
    // Long enough for several signs of life, which say what a worker runs.
    let id = bed.start("toil", 3000).await;
    bed.begun(&id, 1).await;
    let seen = eventually("the worker is listed with its attempt", async || {
        let seen = bed.workers().await;
        (seen["remote"][0]["running"] == 1).then_some(seen)
    })
    .await;
    let document = client.until(&id, "completed").await;
    assert_eq!(document["output"]["pid"], worker.pid());
    assert_eq!(
        bed.ledger(&id),
        [("begin".to_owned(), worker.pid()), ("end".to_owned(), worker.pid())]
    );
    assert_eq!(bed.events(&id).await, ["started", "step_started", "step_completed"]);
    let listed = &seen["remote"][0];
    assert_eq!(
        (&listed["steps"], &listed["concurrency"], &listed["pid"]),
        (&json!(["double", "toil"]), &json!(7), &json!(worker.pid()))
    );
    assert_eq!(
        (listed["version"].as_str(), &listed["is_alive"]),
        (Some(env!("CARGO_PKG_VERSION")), &json!(true))
    );
    assert!(listed["last_seen"].as_str().is_some_and(|at| at.ends_with('Z')), "{listed:#}");
    assert_eq!(
        (&seen["workers"], &seen["unserved"]),
        (&json!([]), &json!(["ask", "vow", "wake_up"]))
    );
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_step_that_nobody_runs_says_so_and_goes_on_when_somebody_comes() {
    let bed = Bed::new();
    let client = bed.server.client();
    let id = bed.start("toil", 0).await;
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
            "no live worker accepts tasks of `toil`: start one with `crux worker --steps toil`"
        ),
        "{why}"
    );
    let _other = bed.worker(&["--steps", "double"]);
    let worker = bed.worker(&["--steps", "toil"]);
    assert_eq!(client.until(&id, "completed").await["output"]["pid"], worker.pid());
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn some_steps_run_here_and_others_there() {
    let bed = Bed::with(crate::broker(), &["--steps", "double,wake_up"]);
    let worker = bed.worker(&["--steps", "all"]);
    let id = bed.start("vow", 0).await;
    assert_eq!(bed.server.client().until(&id, "completed").await["output"]["pid"], worker.pid());
    let answer =
        bed.server.client().post("/api/v1/workflow/double?wait=20s", &json!({"number": 5})).await;
    assert_eq!(answer.json()["output"], json!({"number": 20}), "{:?}", answer.body);
    let here: Vec<String> = bed.workers().await["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lane| lane["step_type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(here, ["double", "wake_up"]);
    assert_eq!(
        bed.workers().await["workers"][0]["completed"],
        2,
        "both doublings ran in the server"
    );
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn workers_share_and_none_takes_more_than_it_may() {
    let bed = Bed::new();
    let workers = [bed.worker(&["--concurrency", "2"]), bed.worker(&["--concurrency", "2"])];
    bed.sees(&[&workers[0], &workers[1]]).await;
    let mut ids = Vec::new();
    for n in 0..24 {
        ids.push(bed.start(if n % 3 == 0 { "vow" } else { "toil" }, 150).await);
    }
    for id in &ids {
        bed.server.client().until(id, "completed").await;
        assert_eq!(bed.ledger(id).len(), 2, "each once");
    }
    bed.assert_shared(&workers, 2, 6);
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_worker_is_told_that_nobody_waits_any_more() {
    let bed = Bed::new();
    let worker = bed.worker(&["--steps", "ask"]);
    let running = async |expected: u64| {
        eventually(&format!("{expected} run"), async || {
            (bed.workers().await["remote"][0]["running"] == expected).then_some(())
        })
        .await;
    };
    let client = bed.server.client();
    let id = client.start("/api/v1/workflow/question", &json!({"question": "What?"})).await;
    running(1).await;
    assert_eq!(client.tell(&id, "cancel", &json!({})).await.status, 200);
    running(0).await;
    assert!(client.until(&id, "cancelled").await.is_object(), "{}", worker.log());
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_type_has_a_limit_of_its_own() {
    let bed = Bed::new();
    let limit = [("CRUX_WORKERS__STEPS__TOIL__MAXIMUM", "1")];
    let workers = [
        bed.worker_with(&limit, &["--concurrency", "8"]),
        bed.worker_with(&limit, &["--concurrency", "8"]),
    ];
    bed.sees(&[&workers[0], &workers[1]]).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(bed.start("toil", 200).await);
    }
    for id in &ids {
        bed.server.client().until(id, "completed").await;
    }
    bed.assert_shared(&workers, 1, 3);
}
