//! Step structs in workers: a server that leaves them to workers, a real RabbitMQ or
//! Redis between them, and a ledger that the steps themselves write. One broker for all tests; each
//! has its own exchange and queues.
#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod attached;
mod death;
mod ending;
mod harness;
mod nodes;
mod refused;
mod sharing;
mod streams;

use std::sync::OnceLock;

use crux_test_kit as kit;
use kit::rabbit::{self, Broker};

const BINARY: &str = env!("CARGO_BIN_EXE_crux-test-app");

/// The broker, which no test here stops.
fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(Broker::start)
}
