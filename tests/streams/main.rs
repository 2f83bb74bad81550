//! The built binary over a real Redis: tasks leave by streams, results come back by streams, and
//! services know nothing of Crux but its entries. One server for all tests: each has its own
//! prefix, and those that hurt the server have one for themselves.
#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod cluster;
mod dead_consumers;
mod events;
mod groups;
mod outage;
mod python;
mod refused;
mod service;
mod upload;

use std::sync::OnceLock;

use crux_test_kit as kit;
use kit::upload::{fresh_name, product, result, start};
use kit::{Redis, Server};
use service::Line;

const BINARY: &str = env!("CARGO_BIN_EXE_crux");
/// Of nodes and what they hold: short, so that the dead are noticed soon, and long enough for a
/// busy machine.
const LEASE_MS: u64 = 2000;

/// The server that tests share; it ends with the process.
fn shared() -> &'static Redis {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    SERVER.get_or_init(|| Redis::start_with(&[("appendonly", "yes"), ("appendfsync", "everysec")]))
}

/// Store and bus in Redis.
fn config(url: &str, prefix: &str, more: &str) -> String {
    format!("store: {{ kind: redis }}\n{}", bus_only(url, prefix, more))
}

/// The store in a file.
fn bus_only(url: &str, prefix: &str, more: &str) -> String {
    format!(
        "bus: redis\nredis: {{ url: '{url}', prefix: {prefix}, lease: {LEASE_MS}ms, timeout: 2s {more} }}\n"
    )
}

/// A server, and a line to its streams.
async fn server() -> (Server, Line) {
    let (name, url) = (fresh_name(), shared().url());
    let server = Server::start(BINARY, &config(&url, &name, ""));
    (server, Line::open(&url, &name).await)
}

kit::broker_suite!(
    ignore "needs redis-server",
    async |more: String| {
        let (name, url) = (fresh_name(), shared().url());
        let server = Server::start(BINARY, &format!("{}{more}", config(&url, &name, "")));
        (server, Line::open(&url, &name).await, ())
    },
    async |_: String| {
        let (name, url) = (fresh_name(), shared().url());
        let config = config(&url, &name, "");
        let nodes: Vec<Server> = (0..3).map(|_| Server::start(BINARY, &config)).collect();
        (nodes, Line::open(&url, &name).await, ())
    }
);
