//! Several servers that share a store, and workers that serve them all.

use crate::harness::Harness;
use crate::kit::Redis;

#[tokio::test]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn another_node_receives_what_the_worker_of_a_dead_node_does() {
    let redis = Redis::start();
    let mut a = Harness::new_on(&redis);
    let b = a.another(&["--steps", "none"]);
    let mut first = a.worker(&[]);
    b.sees(&[&first]).await;
    let ids = [
        a.start("timed_work", 4000).await,
        a.start("work_once", 4000).await,
        b.start("timed_work", 4000).await,
    ];
    for id in &ids {
        a.begun(id, 1).await;
    }
    a.server.kill();
    for id in &ids {
        assert_eq!(b.server.client().until(id, "completed").await["output"]["pid"], first.pid());
        assert_eq!(a.ledger(id).len(), 2, "it was begun once");
        assert!(!b.events(id).await.contains(&"task_lost".to_owned()));
    }
    // The node that is left also misses a worker.
    let (timed_work, work_once) =
        (b.start("timed_work", 1500).await, b.start("work_once", 1500).await);
    for id in [&timed_work, &work_once] {
        a.begun(id, 1).await;
    }
    first.kill();
    let second = a.worker(&[]);
    assert_eq!(
        b.server.client().until(&timed_work, "completed").await["output"]["pid"],
        second.pid()
    );
    assert!(
        b.server.client().until(&work_once, "parked").await.to_string().contains("OutcomeUnknown")
    );
    assert_eq!(a.ledger(&work_once).len(), 1);
}

#[tokio::test]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn nodes_may_run_different_steps_and_neither_takes_the_others_work_for_lost() {
    let redis = Redis::start();
    let a = Harness::new_on(&redis);
    let b = a.another(&["--steps", "all"]);
    let worker = a.worker(&[]);
    b.sees(&[&worker]).await;
    let (there, here) = (a.start("timed_work", 3000).await, b.start("timed_work", 3000).await);
    a.begun(&there, 1).await;
    a.begun(&here, 1).await;
    // A question to the other node may bring the instance into its memory.
    for (node, id) in [(&b, &there), (&a, &here)] {
        assert_eq!(
            node.server.client().tell(id, "pause", &serde_json::json!({})).await.status,
            200
        );
        assert_eq!(
            node.server.client().tell(id, "resume", &serde_json::json!({})).await.status,
            200
        );
    }
    assert_eq!(a.server.client().until(&there, "completed").await["output"]["pid"], worker.pid());
    assert_eq!(a.server.client().until(&here, "completed").await["output"]["pid"], b.server.pid());
    for id in [&there, &here] {
        assert_eq!(a.ledger(id).len(), 2, "it was begun once");
    }
}
