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
mod nodes;
mod outage;
mod queues;
mod refused;
mod service;
mod store_outage;
mod upload;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crux_test_kit as kit;
use kit::rabbit::Broker;
use kit::{Server, proxy, rabbit};
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

/// An exchange that no other test uses; it is the prefix of the queues, too.
fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed))
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
