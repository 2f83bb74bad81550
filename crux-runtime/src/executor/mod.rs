//! Workers: step structs and what runs them. A task comes in by [`WorkerManager::submit`] and never
//! waits there; what became of it goes back as [`crate::task::Report`]s. Workers know no store and
//! no workflow: they see one attempt at a time.
//!
//! [`step`] is the author's side; `manager` the face for the engine; `lane` (async) and `threads`
//! (blocking) hand out attempts under a step type's limits; `attempt` runs one.

mod attempt;
pub(crate) mod limits;
mod manager;
pub(crate) mod queue;
pub mod step;
mod step_selection;
pub mod testing;
mod thread_pool;

pub use crate::executor::limits::{Limits, Options, Share};
pub use crate::executor::manager::{Error, Listing, WorkerManager};
pub use crate::executor::step_selection::Choice;
pub use crate::task::cancellation::Cancellation;
