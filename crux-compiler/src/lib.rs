//! The Crux compiler: pipelines in, Rust source and diagnostics out.
pub mod ir;
