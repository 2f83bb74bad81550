//! Workers: step structs and what runs them. A task comes in by [`WorkerManager::submit`] and never waits there; what became of it goes
//! back as [`task::Report`]s. Workers know no store and no workflow: they see one attempt at a time.
//!
//! [`step`] is the author's side; `manager` the face for the engine; `lane` (async) and `threads` (blocking) hand out attempts under
//! a step type's limits; `attempt` runs one.

mod attempt;
mod cancel;
mod choice;
pub(crate) mod lane;
pub(crate) mod limits;
mod manager;
pub mod step;
pub mod task;
pub mod testing;
mod threads;

pub use cancel::Cancellation;
pub use choice::Choice;
pub use limits::{Limits, Options, Share};
pub use manager::{Error, Listing, WorkerManager};
