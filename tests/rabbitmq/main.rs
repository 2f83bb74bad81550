//! The built binary over a real RabbitMQ, with services that know nothing of Crux but its messages.
//! One broker for all tests: each has its own exchange and queues, and those that hurt the broker
//! have it for themselves.
#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod concurrent_nodes;
mod cuts;
mod deployment;
mod events;
mod failover;
mod languages;
mod ledger;
mod limits;
mod outage;
mod queues;
mod service;
mod store_outage;
mod upload;

use std::sync::OnceLock;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crux_test_kit as kit;
use kit::rabbit::Broker;
use kit::upload::{fresh_name, product, result};
use kit::{Redis, Server, proxy, rabbit};
use service::Line;

const BINARY: &str = env!("CARGO_BIN_EXE_crux");

fn broker() -> &'static RwLock<Broker> {
    static BROKER: OnceLock<RwLock<Broker>> = OnceLock::new();
    BROKER.get_or_init(|| RwLock::new(Broker::start()))
}

/// The broker, beside other tests.
async fn shared() -> RwLockReadGuard<'static, Broker> {
    broker().read().await
}

/// The broker, for a test that stops or blocks it.
async fn alone() -> RwLockWriteGuard<'static, Broker> {
    broker().write().await
}

fn config(broker: &Broker, name: &str, more: &str) -> String {
    format!(
        "bus: rabbitmq\nrabbitmq: {{ url: '{}', exchange: {name}, prefix: {name}, retry_delay: 200ms {more} }}\n",
        broker.url()
    )
}

/// A server, and a line to its exchange.
async fn server(broker: &Broker) -> (Server, Line) {
    let name = fresh_name();
    let server = Server::start(BINARY, &config(broker, &name, ""));
    (server, Line::open(&broker.url(), &name).await)
}

/// Three nodes that share a Redis and the broker, and a line to their exchange.
async fn nodes(broker: &Broker) -> (Vec<Server>, Line, Redis) {
    let (redis, name) = (Redis::start(), fresh_name());
    let store = format!(
        "store: {{ kind: redis }}\nredis: {{ host: 127.0.0.1, lease: 1500ms, port: {} }}\n",
        redis.port()
    );
    let config = format!("{}{store}", config(broker, &name, ""));
    let nodes = (0..3).map(|_| Server::start(BINARY, &config)).collect();
    (nodes, Line::open(&broker.url(), &name).await, redis)
}

kit::broker_suite!(
    ignore "needs rabbitmq-server and redis-server",
    async |more: String| {
        let broker = shared().await;
        let name = fresh_name();
        let server = Server::start(BINARY, &format!("{}{more}", config(&broker, &name, "")));
        (server, Line::open(&broker.url(), &name).await, broker)
    },
    async |_: String| {
        let broker = shared().await;
        let (nodes, line, redis) = nodes(&broker).await;
        (nodes, line, (broker, redis))
    }
);
