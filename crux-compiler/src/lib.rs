//! The Crux compiler: pipelines in, Rust source and diagnostics out.

pub mod codes;
pub mod diagnostic;
pub mod expr;
pub mod ir;
pub mod model;
pub mod names;
pub mod source;
pub mod suggest;
pub mod text;
pub mod types;
pub mod typing;
pub mod units;
