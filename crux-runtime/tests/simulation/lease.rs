//! A node that loses its lease while it takes up what another left, because the store hangs: it stops at once, not when the store is back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crux_runtime::app::App;
use crux_runtime::engine::api::{Error, Start};
use crux_runtime::engine::{Engine, Options};
use crux_runtime::live::Hub;
use crux_runtime::store::{self, Membership, memory};
use crux_runtime::worker::WorkerManager;
use serde_json::value::RawValue;

use super::random::Random;
use super::services::Services;
use super::store::{Faults, Faulty};
use super::world::WORKFLOWS;

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_while_a_take_up_hangs_stops_the_node_at_once() {
    let random = Arc::new(Random::new(1, "lease"));
    let mut store = Faulty::new(Arc::new(memory::Memory::new(Arc::new(memory::NoFaults))), Faults::default(), random.clone());
    store.membership = tokio::sync::watch::Sender::new(Membership { number: 1, ..Membership::default() });
    let services = Services { ledger: Arc::default(), random, trouble: 0 };
    let app = Arc::new(App { workflows: WORKFLOWS, contracts: &[], events: &[], routes: &[], steps: Vec::new() });
    let workers = WorkerManager::new(&[], &Default::default()).expect("no steps");
    let engine = Engine::open(app, Arc::new(store.clone()), Arc::new(services), workers, Hub::default(), Options::default());
    let engine = engine.await.expect("an empty store opens");
    let start = || {
        engine.start(Start {
            workflow: "order".to_owned(),
            input: RawValue::from_string(r#"{"order":"1","big":false}"#.to_owned()).expect("JSON"),
            request_id: None,
            owner: String::new(),
            trigger: "test".to_owned(),
            traceparent: String::new(),
        })
    };
    start().await.expect("nothing fails yet");

    // Another node goes, and the store answers no question about what it left.
    store.hangs.store(true, Ordering::SeqCst);
    store.membership.send_modify(|membership| membership.departures += 1);
    pass(100).await;
    store.membership.send_modify(|membership| membership.holds = false);
    pass(100).await;
    let refused = start().await;
    assert!(matches!(refused, Err(Error::Store(store::Error::Unavailable(_)))), "works without a lease: {refused:?}");

    store.membership.send_modify(|membership| *membership = Membership { number: 2, holds: true, departures: 2 });
    store.hangs.store(false, Ordering::SeqCst);
    pass(1_000).await;
    start().await.expect("the node works again");
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
