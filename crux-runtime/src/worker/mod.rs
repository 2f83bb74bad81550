//! Workers: step structs and what runs them.

pub mod step;
pub mod task;
