//! The built binary, driven from outside, with pipelines that the shipped ones do not need. One file per subject.
#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

#[path = "../../../kit/mod.rs"]
mod kit;

mod completions;
mod door;
mod events;
mod following;
mod gateway;
mod hooks;
mod kill;
mod life;
mod redis;
mod services;
mod starting;
mod telling;

use kit::Server;

/// A server with services as the text says.
fn server(config: &str) -> Server {
    Server::start(env!("CARGO_BIN_EXE_crux-test-app"), &format!("{config}\nconfig: {{ HOME: Ghent }}\n"))
}
