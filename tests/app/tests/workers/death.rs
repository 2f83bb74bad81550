//! Workers and servers die, or lose the broker, with work in their hands.

use std::time::Duration;

use crate::harness::Harness;
use crate::kit::eventually;
use crate::rabbit::Broker;

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn what_a_dead_worker_ran_is_lost_and_done_by_another() {
    let harness = Harness::new();
    let mut first = harness.worker(&[]);
    let id = harness.start("timed_work", 1500).await;
    harness.begun(&id, 1).await;
    // The server has to know that it began.
    eventually("the start is recorded", async || {
        harness.events(&id).await.contains(&"step_started".to_owned()).then_some(())
    })
    .await;
    let second = harness.worker(&[]);
    first.kill();
    let document = harness.server.client().until(&id, "completed").await;
    assert_eq!(document["output"]["pid"], second.pid());
    let (first, second) = (first.pid(), second.pid());
    assert_eq!(
        harness.ledger(&id),
        [("begin".to_owned(), first), ("begin".to_owned(), second), ("end".to_owned(), second)]
    );
    assert_eq!(
        harness.events(&id).await,
        ["started", "step_started", "task_lost", "step_started", "step_completed"]
    );
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn what_must_not_begin_twice_does_not_and_its_outcome_is_unknown() {
    let harness = Harness::new();
    let mut first = harness.worker(&[]);
    let id = harness.start("work_once", 60_000).await;
    harness.begun(&id, 1).await;
    first.kill();
    let second = harness.worker(&[]);
    let document = harness.server.client().until(&id, "parked").await;
    assert!(document.to_string().contains("OutcomeUnknown"), "{document:#}");
    // The other one takes from the same queue, and takes it no more.
    let next = harness.start("work_once", 0).await;
    let document = harness.server.client().until(&next, "completed").await;
    assert_eq!(document["output"]["pid"], second.pid());
    assert_eq!(harness.ledger(&id), [("begin".to_owned(), first.pid())]);
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_worker_that_is_alive_keeps_its_attempt_while_the_server_is_away() {
    let mut harness = Harness::new();
    let worker = harness.worker(&[]);
    let mut ids =
        vec![harness.start("timed_work", 5000).await, harness.start("work_once", 5000).await];
    for id in &ids {
        harness.begun(id, 1).await;
    }
    // One of which the result is there before the server is.
    ids.push(harness.start("work_once", 500).await);
    harness.begun(&ids[2], 1).await;
    harness.server.kill();
    // Longer than a silence that means death.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    eventually("it has ended", async || (harness.ledger(&ids[2]).len() == 2).then_some(())).await;
    harness.server.restart_with(&["--steps", "none"]);
    for id in &ids {
        assert_eq!(
            harness.server.client().until(id, "completed").await["output"]["pid"],
            worker.pid()
        );
        assert_eq!(harness.ledger(id).len(), 2, "it was begun once");
        assert!(!harness.events(id).await.contains(&"task_lost".to_owned()));
    }
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn what_ran_in_a_dead_server_is_not_sent_to_a_worker_if_it_must_not_begin_twice() {
    let mut harness = Harness::with(crate::broker(), &["--steps", "all"]);
    let (work_once, timed_work) =
        (harness.start("work_once", 60_000).await, harness.start("timed_work", 700).await);
    harness.begun(&work_once, 1).await;
    harness.begun(&timed_work, 1).await;
    let server = harness.server.pid();
    harness.server.kill();
    harness.server.restart_with(&["--steps", "none"]);
    let worker = harness.worker(&[]);
    let client = harness.server.client();
    assert!(client.until(&work_once, "parked").await.to_string().contains("OutcomeUnknown"));
    assert_eq!(client.until(&timed_work, "completed").await["output"]["pid"], worker.pid());
    assert_eq!(harness.ledger(&work_once), [("begin".to_owned(), server)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn a_worker_goes_on_without_the_broker_and_reports_when_it_is_back() {
    let mut broker = Broker::start();
    let harness = Harness::with(&broker, &["--steps", "none"]);
    let worker = harness.worker(&["--concurrency", "4"]);
    let client = harness.server.client();
    // A quorum queue that is not a second old when its broker is killed may hang forever
    // afterwards (seen with RabbitMQ 3.10).
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ids = [harness.start("timed_work", 2000).await, harness.start("work_once", 2000).await];
    for id in &ids {
        harness.begun(id, 1).await;
        eventually("the start is recorded", async || {
            harness.events(id).await.contains(&"step_started".to_owned()).then_some(())
        })
        .await;
    }
    tokio::task::block_in_place(|| broker.kill());
    // Longer than the heartbeat timeout; but no heartbeats could be received.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for id in &ids {
        eventually("it goes on", async || (harness.ledger(id).len() == 2).then_some(())).await;
        assert!(
            !harness.events(id).await.contains(&"task_lost".to_owned()),
            "no heartbeats can be received"
        );
    }
    tokio::task::block_in_place(|| broker.begin());
    for id in &ids {
        assert_eq!(client.until(id, "completed").await["output"]["pid"], worker.pid());
    }
    assert_eq!(harness.ledger(&ids[1]).len(), 2, "it was begun once");
    // And it works on.
    let id = harness.start("work_once", 0).await;
    client.until(&id, "completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn a_broker_that_blocks_makes_nobody_dead_and_what_it_may_have_is_not_sent_twice() {
    let mut broker = Broker::start();
    let harness = Harness::with(&broker, &["--steps", "none"]);
    let worker = harness.worker(&[]);
    let client = harness.server.client();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ids = [harness.start("timed_work", 3000).await, harness.start("work_once", 3000).await];
    for id in &ids {
        harness.begun(id, 1).await;
        eventually("the start is recorded", async || {
            harness.events(id).await.contains(&"step_started".to_owned()).then_some(())
        })
        .await;
    }
    tokio::task::block_in_place(|| broker.short_of_memory(true));
    // Several times as long as a silence that means death.
    tokio::time::sleep(Duration::from_secs(4)).await;
    // On their way when the broker dies.
    let (timed_work, work_once) =
        (harness.start("timed_work", 0).await, harness.start("work_once", 0).await);
    eventually("it is seen that the broker blocks", async || {
        (client.get("/health").await.json()["bus"]["status"] == "failing").then_some(())
    })
    .await;
    tokio::task::block_in_place(|| broker.short_of_memory(false));
    for id in &ids {
        assert_eq!(client.until(id, "completed").await["output"]["pid"], worker.pid());
        assert_eq!(harness.ledger(id).len(), 2, "it was begun once");
        assert!(!harness.events(id).await.contains(&"task_lost".to_owned()), "nobody could speak");
    }
    for id in [&timed_work, &work_once] {
        client.until(id, "completed").await;
    }
    // Once more, and this time nobody will ever know.
    tokio::task::block_in_place(|| broker.short_of_memory(true));
    let (timed_work, work_once) =
        (harness.start("timed_work", 0).await, harness.start("work_once", 0).await);
    eventually("it is seen that the broker blocks", async || {
        (client.get("/health").await.json()["bus"]["status"] == "failing").then_some(())
    })
    .await;
    tokio::task::block_in_place(|| broker.kill());
    tokio::task::block_in_place(|| broker.begin());
    assert!(client.until(&work_once, "parked").await.to_string().contains("OutcomeUnknown"));
    client.until(&timed_work, "completed").await;
    assert_eq!(harness.ledger(&work_once), []);
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_task_that_the_broker_delivers_again_is_not_begun_if_another_worker_may_have_begun_it() {
    let harness = Harness::new();
    let thief = harness.thief().await;
    let (work_once, timed_work) =
        (harness.start("work_once", 0).await, harness.start("timed_work", 0).await);
    for step_type in ["work_once", "timed_work"] {
        thief.take(step_type).await;
    }
    drop(thief);
    let worker = harness.worker(&[]);
    let client = harness.server.client();
    assert_eq!(client.until(&timed_work, "completed").await["output"]["pid"], worker.pid());
    assert!(client.until(&work_once, "parked").await.to_string().contains("OutcomeUnknown"));
    assert_eq!(harness.ledger(&work_once), []);
}
