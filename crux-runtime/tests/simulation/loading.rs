//! Instances that leave memory, and those that have to come back while the store cannot be read:
//! nobody would ask for them again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crux_runtime::engine::api::{Command, Error};
use crux_runtime::store::Store;

use super::bed::{Bed, pass};
use super::random::Random;
use super::store::{Faults, Faulty};

/// Another process on the same store.
fn other(bed: &Bed) -> Faulty {
    Faulty::new(bed.store.below.clone(), Faults::default(), Arc::new(Random::new(2, "bed")))
}

#[tokio::test(start_paused = true)]
async fn what_a_process_has_left_is_taken_up_when_the_store_can_be_read_again() {
    let dead = Bed::new().await;
    dead.store.refuses_marks.store(true, Ordering::SeqCst);
    let instance = dead.start().await;
    pass(100).await;
    dead.store.crashed.store(true, Ordering::SeqCst);

    let store = other(&dead);
    store.refuses_reads.store(true, Ordering::SeqCst);
    let bed = Bed::on(store).await;
    pass(3_000).await;
    assert!(!bed.engine.has_recovered(), "it says that everything is taken up");
    bed.store.refuses_reads.store(false, Ordering::SeqCst);
    pass(3_000).await;
    assert!(bed.engine.has_recovered());
    // Its task has effect `once`: whether it had arrived nobody knows.
    let rows = bed.store.below.rows(instance, 1, 10).await.expect("memory does not fail");
    assert!(rows.first().is_some_and(|row| row.row.contains("OutcomeUnknown")), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_has_moved_is_loaded_again_when_the_store_can_be_read_again() {
    let bed = Bed::new().await;
    let instance = bed.start().await;
    pass(100).await;
    let elsewhere = Bed::on(other(&bed)).await;
    elsewhere.engine.command(instance, Command::Pause).await.expect("it runs");

    bed.store.refuses_reads.store(true, Ordering::SeqCst);
    let moved = bed.engine.command(instance, Command::Cancel { reason: "test".to_owned() }).await;
    assert!(moved.as_ref().is_err_and(Error::is_passing), "{moved:?}");
    pass(3_000).await;
    assert_eq!(bed.engine.stats().cached.load(Ordering::Relaxed), 0);
    bed.store.refuses_reads.store(false, Ordering::SeqCst);
    pass(3_000).await;
    assert_eq!(
        bed.engine.stats().cached.load(Ordering::Relaxed),
        1,
        "nobody thinks of it any more"
    );
}

/// The bed keeps one that waits.
#[tokio::test(start_paused = true)]
async fn an_instance_is_counted_once_however_often_it_comes_to_rest() {
    let bed = Bed::new().await;
    let instance = bed.start().await;
    for _ in 0..5 {
        pass(100).await;
        bed.hear_of(instance).await;
    }
    assert_eq!(
        bed.engine.stats().cached.load(Ordering::Relaxed),
        1,
        "it has pushed itself out of memory"
    );
}
