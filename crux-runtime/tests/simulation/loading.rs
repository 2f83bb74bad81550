//! Instances that leave memory, and those that have to come back while the store cannot be read:
//! nobody would ask for them again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crux_runtime::engine::api::{Command, Error};
use crux_runtime::store::Store;

use super::harness::{Harness, pass};
use super::random::Random;
use super::store::{Faults, Faulty};

/// Another process on the same store.
fn other(harness: &Harness) -> Faulty {
    Faulty::new(harness.store.below.clone(), Faults::default(), Arc::new(Random::new(2, "harness")))
}

#[tokio::test(start_paused = true)]
async fn what_a_process_has_left_is_resumed_when_the_store_can_be_read_again() {
    let dead = Harness::new().await;
    dead.store.refuses_marks.store(true, Ordering::SeqCst);
    let instance = dead.start().await;
    pass(100).await;
    dead.store.crashed.store(true, Ordering::SeqCst);

    let store = other(&dead);
    store.refuses_reads.store(true, Ordering::SeqCst);
    let harness = Harness::on(store).await;
    pass(3_000).await;
    assert!(!harness.engine.has_recovered(), "it says that everything is resumed");
    harness.store.refuses_reads.store(false, Ordering::SeqCst);
    pass(3_000).await;
    assert!(harness.engine.has_recovered());
    // Its task has effect `once`: whether it had arrived nobody knows.
    let rows = harness.store.below.rows(instance, 1, 10).await.expect("memory does not fail");
    assert!(rows.first().is_some_and(|row| row.row.contains("OutcomeUnknown")), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn what_another_node_has_moved_is_loaded_again_when_the_store_can_be_read_again() {
    let harness = Harness::new().await;
    let instance = harness.start().await;
    pass(100).await;
    let elsewhere = Harness::on(other(&harness)).await;
    elsewhere.engine.command(instance, Command::Pause).await.expect("it runs");

    harness.store.refuses_reads.store(true, Ordering::SeqCst);
    let moved =
        harness.engine.command(instance, Command::Cancel { reason: "test".to_owned() }).await;
    assert!(moved.as_ref().is_err_and(Error::is_passing), "{moved:?}");
    pass(3_000).await;
    assert_eq!(harness.engine.counters().cached, 0);
    harness.store.refuses_reads.store(false, Ordering::SeqCst);
    pass(3_000).await;
    assert_eq!(harness.engine.counters().cached, 1, "nobody thinks of it any more");
}

/// The harness keeps one that waits.
#[tokio::test(start_paused = true)]
async fn an_instance_is_counted_once_however_often_it_comes_to_rest() {
    let harness = Harness::new().await;
    let instance = harness.start().await;
    for _ in 0..5 {
        pass(100).await;
        harness.send_heartbeat(instance).await;
    }
    assert_eq!(harness.engine.counters().cached, 1, "it has pushed itself out of memory");
}
