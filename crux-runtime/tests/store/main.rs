//! The stores: one suite for all of them, and what only one kind has to do.
#![allow(clippy::unwrap_used, reason = "what a test does not expect has to end it")]

mod harness;
mod memory;
mod redis;
mod sqlite;
mod suite;

use crux_test_kit::redis as redis_server;
