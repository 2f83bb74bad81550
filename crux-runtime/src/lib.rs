//! The Crux runtime: what runs compiled workflows.

mod address;
pub mod app;
pub mod bus;
mod canonical;
pub mod cli;
mod clock;
pub mod config;
pub mod document;
pub mod engine;
pub mod id;
mod ingress;
pub mod journal;
pub mod live;
pub mod machine;
pub mod messages;
mod outside;
mod redis;
mod router;
pub mod server;
mod source;
pub mod station;
pub mod store;
mod supervise;
mod telemetry;
mod wording;
pub mod worker;

#[doc(hidden)]
pub use serde;

// The derives write paths that begin with the crate's name.
#[cfg(test)]
extern crate self as crux_runtime;

pub use app::App;
pub use cli::{Tool, main, main_with};
pub use crux_macros::workflow;
pub use worker::step::{Contract, Error, Input, Output, Step, StepContext, StepError, StepResult};
pub use worker::testing;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
