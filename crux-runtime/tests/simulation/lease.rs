//! A node that loses its lease during a takeover because the store hangs: it stops immediately, not
//! when the store is back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crux_runtime::engine::api::Error;
use crux_runtime::store::{self, Membership, memory};

use super::harness::{Harness, pass};
use super::random::Random;
use super::store::{Faults, Faulty};

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_while_a_takeover_hangs_stops_the_node_immediately() {
    let below = Arc::new(memory::Memory::new(Arc::new(memory::NoFaults)));
    let mut store = Faulty::new(below, Faults::default(), Arc::new(Random::new(1, "lease")));
    store.membership =
        tokio::sync::watch::Sender::new(Membership { number: 1, ..Membership::default() });
    let harness = Harness::on(store).await;
    harness.try_start().await.expect("nothing fails yet");

    // Another node goes, and the store answers no question about what it left.
    harness.store.hangs.store(true, Ordering::SeqCst);
    harness.store.membership.send_modify(|membership| membership.departures += 1);
    pass(100).await;
    harness.store.membership.send_modify(|membership| membership.holds_lease = false);
    pass(100).await;
    let refused = harness.try_start().await;
    assert!(
        matches!(refused, Err(Error::Store(store::Error::Unavailable(_)))),
        "works without a lease: {refused:?}"
    );

    harness.store.membership.send_modify(|membership| {
        *membership = Membership { number: 2, holds_lease: true, departures: 2 }
    });
    harness.store.hangs.store(false, Ordering::SeqCst);
    pass(1_000).await;
    harness.try_start().await.expect("the node works again");
}
