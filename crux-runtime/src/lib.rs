//! The Crux runtime, which runs compiled workflows.

mod address;
pub mod app;
pub(crate) mod backoff;
pub mod bus;
mod canonical;
pub mod cli;
mod clock;
pub mod config;
pub(crate) mod definition;
pub mod engine;
pub mod executor;
pub mod id;
mod ingress;
pub mod journal;
#[cfg(test)]
mod layers;
pub mod live;
pub mod machine;
mod open_files;
mod outside;
mod proto;
mod redis_client;
pub mod server;
mod signals;
mod source;
pub mod store;
mod suggest;
mod supervise;
pub mod task;
mod telemetry;
mod token;
pub mod units;
pub mod view;
pub mod worker;

#[doc(hidden)]
pub use serde;

// The derives write paths that begin with the crate's name.
#[cfg(test)]
extern crate self as crux_runtime;

pub use crate::executor::step::{
    Contract, Error, Input, Output, Step, StepContext, StepError, StepResult,
};
pub use crate::executor::testing;
pub use app::App;
pub use cli::{Tool, main, main_with};
pub use crux_macros::workflow;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
