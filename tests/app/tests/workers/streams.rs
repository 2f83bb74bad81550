//! The same over Redis Streams instead of RabbitMQ.

use std::time::Duration;

use crate::harness::Harness;
use crate::kit::{Redis, eventually};

#[tokio::test]
#[ignore = "needs redis-server"]
async fn workers_share_over_redis_and_none_takes_more_than_it_may() {
    let redis = Redis::start();
    let harness = Harness::over_streams(&redis);
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
#[ignore = "needs redis-server"]
async fn over_redis_a_dead_worker_is_missed_and_what_must_not_begin_twice_does_not() {
    let redis = Redis::start();
    let harness = Harness::over_streams(&redis);
    let mut first = harness.worker(&[]);
    let (timed_work, work_once) =
        (harness.start("timed_work", 1500).await, harness.start("work_once", 1500).await);
    for id in [&timed_work, &work_once] {
        harness.begun(id, 1).await;
        eventually("the start is recorded", async || {
            harness.events(id).await.contains(&"step_started".to_owned()).then_some(())
        })
        .await;
    }
    let second = harness.worker(&[]);
    first.kill();
    let client = harness.server.client();
    assert_eq!(client.until(&timed_work, "completed").await["output"]["pid"], second.pid());
    assert_eq!(
        harness.events(&timed_work).await,
        ["started", "step_started", "task_lost", "step_started", "step_completed"]
    );
    assert!(client.until(&work_once, "parked").await.to_string().contains("OutcomeUnknown"));
    assert_eq!(harness.ledger(&work_once), [("begin".to_owned(), first.pid())]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn over_redis_a_worker_ends_in_order_and_goes_on_without_its_server() {
    let redis = Redis::start();
    let mut harness = Harness::over_streams(&redis);
    let mut first = harness.worker(&["--concurrency", "2"]);
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(harness.start(if n % 2 == 0 { "work_once" } else { "timed_work" }, 1500).await);
    }
    eventually("two have begun", async || (harness.whole_ledger().len() >= 2).then_some(())).await;
    first.tell_to_end();
    assert!(first.ended().await.success(), "{}", first.log());
    let ends = harness.whole_ledger().into_iter().filter(|line| line.0 == "end").count();
    assert!(
        harness.whole_ledger().len() == 2 * ends && (2..=4).contains(&ends),
        "{:?}",
        harness.whole_ledger()
    );
    let _second = harness.worker(&["--concurrency", "8"]);
    for id in &ids {
        harness.begun(id, 1).await;
    }
    harness.server.kill();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    harness.server.restart_with(&["--steps", "none"]);
    for id in &ids {
        harness.server.client().until(id, "completed").await;
        assert_eq!(harness.ledger(id).len(), 2, "each once");
        assert!(!harness.events(id).await.contains(&"task_lost".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn a_worker_goes_on_while_redis_is_away() {
    let mut redis = Redis::start();
    let harness = Harness::over_streams(&redis);
    let worker = harness.worker(&[]);
    let ids = [harness.start("timed_work", 5000).await, harness.start("work_once", 5000).await];
    for id in &ids {
        harness.begun(id, 1).await;
        eventually("the start is recorded", async || {
            harness.events(id).await.contains(&"step_started".to_owned()).then_some(())
        })
        .await;
    }
    tokio::task::block_in_place(|| redis.kill());
    tokio::time::sleep(Duration::from_secs(3)).await;
    tokio::task::block_in_place(|| redis.restart());
    for id in &ids {
        assert_eq!(
            harness.server.client().until(id, "completed").await["output"]["pid"],
            worker.pid()
        );
        assert_eq!(harness.ledger(id).len(), 2, "it was begun once");
        assert!(
            !harness.events(id).await.contains(&"task_lost".to_owned()),
            "no heartbeats could be received"
        );
    }
    let id = harness.start("work_once", 0).await;
    harness.server.client().until(&id, "completed").await;
}
