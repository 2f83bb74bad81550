//! The test kit: the built binary as a process that can be killed, brokers and stores on free
//! ports, scripted services, and clients that others wrote. Shared by the tests of several packages
//! and by the bench.

pub mod console;
pub mod fences;
pub mod http;
pub mod languages;
pub mod layers;
pub mod package;
pub mod proxy;
pub mod rabbit;
pub mod redis;
pub mod requirements;
pub mod server;
pub mod service;
pub mod socket;
pub mod upload;

use std::time::{Duration, Instant};

pub use http::{Answer, Client};
pub use redis::Redis;
pub use server::Server;
pub use service::{Gate, Reply, Service};
pub use socket::Socket;

/// How long anything may take that should happen soon. Only a test that fails waits for so long, so
/// it is generous: machines are busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again and again until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The input of the order workflow.
pub fn order(id: &str) -> serde_json::Value {
    serde_json::json!({"orderId": id, "customerId": "CUST-89101", "bookingTime": "2025-08-21T14:25:36Z"})
}
