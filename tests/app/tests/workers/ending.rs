//! Workers that are shut down.

use crate::harness::Harness;
use crate::kit::eventually;

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_worker_that_is_shut_down_finishes_what_it_runs_and_leaves_the_rest_to_others() {
    let harness = Harness::new();
    let mut first = harness.worker(&["--concurrency", "2"]);
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(harness.start(if n % 2 == 0 { "work_once" } else { "timed_work" }, 700).await);
    }
    eventually("two have begun", async || (harness.whole_ledger().len() >= 2).then_some(())).await;
    first.tell_to_end();
    let status = first.ended().await;
    assert!(status.success(), "{status}: {}", first.log());
    let done: Vec<String> = harness
        .whole_ledger()
        .into_iter()
        .filter(|line| line.0 == "end")
        .map(|line| line.2)
        .collect();
    let begun = harness.whole_ledger().into_iter().filter(|line| line.0 == "begin").count();
    assert!(begun == done.len() && (2..=4).contains(&begun), "{:?}", harness.whole_ledger());
    for id in &done {
        harness.server.client().until(id, "completed").await;
    }
    harness.sees(&[]).await;
    assert_eq!(
        harness.workers().await["remote"].as_array().map(Vec::len),
        Some(0),
        "it said that it ends"
    );
    let _second = harness.worker(&["--concurrency", "5"]);
    for id in &ids {
        harness.server.client().until(id, "completed").await;
        assert_eq!(harness.ledger(id).len(), 2, "each once");
        assert!(!harness.events(id).await.contains(&"task_lost".to_owned()));
    }
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn what_does_not_finish_in_time_is_lost_and_done_by_another() {
    let harness = Harness::new();
    let mut first = harness.worker_with(&[("CRUX_SERVER__SHUTDOWN", "300ms")], &[]);
    let id = harness.start("timed_work", 4000).await;
    harness.begun(&id, 1).await;
    first.tell_to_end();
    let second = harness.worker(&[]);
    assert!(first.ended().await.success());
    assert!(harness.ledger(&id).iter().all(|line| line.0 == "begin"), "it ended before its worker");
    assert_eq!(
        harness.server.client().until(&id, "completed").await["output"]["pid"],
        second.pid()
    );
}
