//! The buses: one suite for all of them, and one more for those over a broker.
#![allow(clippy::unwrap_used, reason = "what a test does not expect has to end it")]

mod harness;
mod local;
mod rabbitmq;
mod redis;
mod suite;

use crux_test_kit::{rabbit as rabbit_server, redis as redis_server};
