//! Instances that leave memory, and come back before the store has cleared their marks: what is
//! done of their effects is not done again.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use crux_runtime::machine::Time;
use crux_runtime::store::Store;

use super::harness::{Harness, pass};

#[tokio::test(start_paused = true)]
async fn what_is_done_is_not_done_again_while_the_mark_is_being_cleared() {
    let harness = Harness::new().await;
    harness.store.keeps_marks.store(true, Ordering::SeqCst);
    let two = harness.two().await;
    let cleared = async {
        // For longer than marks wait for company.
        pass(500).await;
        harness.store.keeps_marks.store(false, Ordering::SeqCst);
    };
    tokio::join!(harness.send_heartbeat(two[0]), cleared);
    pass(1_000).await;
    harness.assert_told_once(&two).await;
}

#[tokio::test(start_paused = true)]
async fn marks_that_a_store_could_not_clear_are_cleared_when_it_can_and_wake_ups_are_not_lost() {
    let harness = Harness::new().await;
    harness.store.refuses_marks.store(true, Ordering::SeqCst);
    let two = harness.two().await;
    pass(500).await;
    harness.store.refuses_marks.store(false, Ordering::SeqCst);
    harness.send_heartbeat(two[0]).await;
    pass(3_000).await;
    harness.assert_told_once(&two).await;
    // Both are woken when their attempts' time is over, and neither is in memory for that.
    let due =
        harness.store.below.due(None, Time(i64::MAX), 10).await.expect("memory does not fail");
    assert_eq!(
        due.iter().map(|(_, instance)| *instance).collect::<BTreeSet<_>>(),
        BTreeSet::from(two),
        "one sleeps forever"
    );
}
