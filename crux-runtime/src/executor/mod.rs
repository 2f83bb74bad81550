//! The executor: step structs and what runs them in this process. A task comes in by
//! [`Executor::submit`] and never waits there; its outcome goes back as [`crate::task::Report`]s. The
//! executor knows no store and no workflow: it sees one attempt at a time.
//!
//! [`step`] is the author's side; `manager` the interface for the engine; `queue` (async) and
//! `thread_pool` (blocking) run attempts within a step type's limits; `attempt` runs one.

mod attempt;
pub(crate) mod limits;
mod manager;
pub(crate) mod queue;
pub mod step;
mod step_selection;
pub mod testing;
mod thread_pool;

pub use crate::executor::limits::{Limits, Options, Share};
pub use crate::executor::manager::{Error, Executor, Listing};
pub use crate::executor::step_selection::StepSelection;
pub use crate::task::cancellation::Cancellation;
