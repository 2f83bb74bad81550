//! Nodes on one Redis and the broker, each of the two behind a proxy.

use std::time::Duration;

use crate::kit::{Redis, Server, eventually};
use crate::ledger::health;
use crate::proxy::Proxy;
use crate::rabbit::Broker;
use crate::service::Line;
use crate::{BINARY, fresh_name};

pub struct Deployment {
    pub redis: Redis,
    pub to_redis: Proxy,
    pub to_broker: Proxy,
    pub nodes: Vec<Server>,
    /// To the broker itself.
    pub line: Line,
}

impl Deployment {
    /// So many nodes, which see each other. `settings` go to the store, such as `wait_replicas: 1`.
    pub async fn start(broker: &Broker, nodes: usize, settings: &str) -> Self {
        let redis = Redis::start();
        let (to_redis, to_broker, name) =
            (Proxy::to(redis.port()), Proxy::to(broker.port()), fresh_name());
        // Leases that end soon, and heartbeats that come often, so that tests need not wait for
        // them.
        let config = format!(
            "store: {{ kind: redis {settings} }}\n\
             redis: {{ host: 127.0.0.1, port: {}, lease: 2s, timeout: 1s }}\n\
             bus: rabbitmq\n\
             rabbitmq: {{ url: 'amqp://guest:guest@127.0.0.1:{}/?heartbeat=2', exchange: {name}, prefix: {name}, retry_delay: 200ms }}\n",
            to_redis.port(),
            to_broker.port(),
        );
        let nodes: Vec<Server> = (0..nodes).map(|_| Server::start(BINARY, &config)).collect();
        for node in &nodes {
            eventually("the nodes do not see each other", async || {
                (health(node).await["nodes"].as_array().map_or(0, Vec::len) == nodes.len())
                    .then_some(())
            })
            .await;
        }
        Self { redis, to_redis, to_broker, nodes, line: Line::open(&broker.url(), &name).await }
    }

    pub fn all(&self) -> Vec<&Server> {
        self.nodes.iter().collect()
    }

    /// Until every node says so of itself.
    pub async fn until(&self, status: &str) {
        for node in &self.nodes {
            eventually(&format!("a node that is {status}"), async || {
                (health(node).await["status"] == status).then_some(())
            })
            .await;
        }
    }
}

/// How long what is gone is gone: some seconds, or as long as `OUTAGE_SECONDS` says, such as 60.
pub fn outage() -> Duration {
    let seconds = std::env::var("OUTAGE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}
