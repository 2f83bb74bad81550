//! Generated machines, driven as the engine drives them.

#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]

mod driver;
mod elements;
mod expressions;
mod journals;
mod life;
mod rescue;
mod schema;
