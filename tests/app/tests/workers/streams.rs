//! The same over Redis Streams instead of RabbitMQ.

use std::time::Duration;

use crate::bed::Bed;
use crate::kit::{Redis, eventually};

#[tokio::test]
#[ignore = "needs redis-server"]
async fn workers_share_over_redis_and_none_takes_more_than_it_may() {
    let redis = Redis::start();
    let bed = Bed::over_streams(&redis);
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
#[ignore = "needs redis-server"]
async fn over_redis_a_dead_worker_is_missed_and_what_must_not_begin_twice_does_not() {
    let redis = Redis::start();
    let bed = Bed::over_streams(&redis);
    let mut first = bed.worker(&[]);
    let (toil, vow) = (bed.start("toil", 1500).await, bed.start("vow", 1500).await);
    for id in [&toil, &vow] {
        bed.begun(id, 1).await;
        eventually("the start is recorded", async || {
            bed.events(id).await.contains(&"step_started".to_owned()).then_some(())
        })
        .await;
    }
    let second = bed.worker(&[]);
    first.kill();
    let client = bed.server.client();
    assert_eq!(client.until(&toil, "completed").await["output"]["pid"], second.pid());
    assert_eq!(
        bed.events(&toil).await,
        ["started", "step_started", "task_lost", "step_started", "step_completed"]
    );
    assert!(client.until(&vow, "parked").await.to_string().contains("OutcomeUnknown"));
    assert_eq!(bed.ledger(&vow), [("begin".to_owned(), first.pid())]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn over_redis_a_worker_ends_in_order_and_goes_on_without_its_server() {
    let redis = Redis::start();
    let mut bed = Bed::over_streams(&redis);
    let mut first = bed.worker(&["--concurrency", "2"]);
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(bed.start(if n % 2 == 0 { "vow" } else { "toil" }, 1500).await);
    }
    eventually("two have begun", async || (bed.whole_ledger().len() >= 2).then_some(())).await;
    first.tell_to_end();
    assert!(first.ended().await.success(), "{}", first.log());
    let ends = bed.whole_ledger().into_iter().filter(|line| line.0 == "end").count();
    assert!(
        bed.whole_ledger().len() == 2 * ends && (2..=4).contains(&ends),
        "{:?}",
        bed.whole_ledger()
    );
    let _second = bed.worker(&["--concurrency", "8"]);
    for id in &ids {
        bed.begun(id, 1).await;
    }
    bed.server.kill();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    bed.server.restart_with(&["--steps", "none"]);
    for id in &ids {
        bed.server.client().until(id, "completed").await;
        assert_eq!(bed.ledger(id).len(), 2, "each once");
        assert!(!bed.events(id).await.contains(&"task_lost".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn a_worker_goes_on_while_redis_is_away() {
    let mut redis = Redis::start();
    let bed = Bed::over_streams(&redis);
    let worker = bed.worker(&[]);
    let ids = [bed.start("toil", 5000).await, bed.start("vow", 5000).await];
    for id in &ids {
        bed.begun(id, 1).await;
        eventually("the start is recorded", async || {
            bed.events(id).await.contains(&"step_started".to_owned()).then_some(())
        })
        .await;
    }
    tokio::task::block_in_place(|| redis.kill());
    tokio::time::sleep(Duration::from_secs(3)).await;
    tokio::task::block_in_place(|| redis.restart());
    for id in &ids {
        assert_eq!(bed.server.client().until(id, "completed").await["output"]["pid"], worker.pid());
        assert_eq!(bed.ledger(id).len(), 2, "it was begun once");
        assert!(!bed.events(id).await.contains(&"task_lost".to_owned()), "nobody could be heard");
    }
    let id = bed.start("vow", 0).await;
    bed.server.client().until(&id, "completed").await;
}
