//! The buses: one suite for all of them, and one more for those over a broker.
#![allow(clippy::unwrap_used, reason = "what a test does not expect has to end it")]

mod bed;
mod local;
#[path = "../../../tests/kit/rabbit.rs"]
#[allow(dead_code, reason = "a part of the kit is used")]
mod rabbit_server;
mod rabbitmq;
mod redis;
#[path = "../../../tests/kit/redis.rs"]
mod redis_server;
mod suite;
