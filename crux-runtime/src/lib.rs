//! The Crux runtime: what runs compiled workflows.

pub mod app;
pub mod bus;
mod clock;
pub mod config;
pub mod document;
pub mod engine;
pub mod id;
pub mod journal;
pub mod live;
pub mod machine;
pub mod messages;
mod router;
pub mod store;
pub mod worker;

pub use app::App;
pub use crux_macros::workflow;
pub use worker::step::{Contract, Error, Input, Output, Step, StepContext, StepError, StepResult};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
