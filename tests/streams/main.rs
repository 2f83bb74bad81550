//! The built binary over a real Redis: tasks leave by streams, results come back by streams, and
//! services know nothing of Crux but its entries. One server for all tests: each has its own
//! prefix, and those that hurt the server have one for themselves.
#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod cluster;
mod dead_consumers;
mod events;
mod groups;
mod nodes;
mod outage;
mod python;
mod refused;
mod service;
mod upload;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crux_test_kit as kit;
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

/// A prefix that no other test uses.
fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed))
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

/// Starts an upload; asks again while the node cannot say yes, because the machine is busy or
/// another has just died.
async fn start(node: &Server, name: &str) -> String {
    kit::eventually("a start is taken", || async {
        let answer = node.client().post("/api/v1/workflow/upload", &product(name)).await;
        match answer.status {
            202 => Some(answer.text("workflow_id")),
            503 => None,
            _ => panic!("{answer:?}"),
        }
    })
    .await
}

fn product(name: &str) -> Value {
    json!({"name": name, "description": "A test product", "images": ["image1.jpg", "image2.jpg"], "category": "Electronics", "price": 99.99})
}

/// What good services answer.
fn result(task: &Value) -> Value {
    match task["step_type"].as_str() {
        Some("image_processing") => {
            json!({"processed_images": ["processed1.jpg"], "processing_time": "2.5s"})
        }
        Some("ai_enhancement") => {
            json!({"description": "A better text", "highlights": ["light"], "keywords": ["lamp"]})
        }
        _ => {
            json!({"title": "T", "meta_description": "M", "keywords": ["k"], "slug": format!("slug-{}", task["input"]["name"].as_str().unwrap())})
        }
    }
}
