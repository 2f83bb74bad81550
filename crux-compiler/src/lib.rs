//! The Crux compiler: pipelines in, Rust source and diagnostics out.

pub mod diagnostic;
pub mod ir;
pub mod source;
