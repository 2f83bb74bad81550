//! Several servers that share a store, and workers that serve them all.

use crate::bed::Bed;
use crate::kit::Redis;

#[tokio::test]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn another_node_hears_of_what_the_worker_of_a_dead_node_does() {
    let redis = Redis::start();
    let mut a = Bed::new_on(&redis);
    let b = a.another(&["--steps", "none"]);
    let mut first = a.worker(&[]);
    b.sees(&[&first]).await;
    let ids =
        [a.start("toil", 4000).await, a.start("vow", 4000).await, b.start("toil", 4000).await];
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
    let (toil, vow) = (b.start("toil", 1500).await, b.start("vow", 1500).await);
    for id in [&toil, &vow] {
        a.begun(id, 1).await;
    }
    first.kill();
    let second = a.worker(&[]);
    assert_eq!(b.server.client().until(&toil, "completed").await["output"]["pid"], second.pid());
    assert!(b.server.client().until(&vow, "parked").await.to_string().contains("OutcomeUnknown"));
    assert_eq!(a.ledger(&vow).len(), 1);
}

#[tokio::test]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn nodes_may_run_different_steps_and_neither_takes_the_others_work_for_lost() {
    let redis = Redis::start();
    let a = Bed::new_on(&redis);
    let b = a.another(&["--steps", "all"]);
    let worker = a.worker(&[]);
    b.sees(&[&worker]).await;
    let (there, here) = (a.start("toil", 3000).await, b.start("toil", 3000).await);
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
