//! The Crux compiler: pipelines in, Rust source and diagnostics out.
//!
//! Pure: it opens no file, prints nothing and never panics on what it is given; only [`cargo`] knows that there is a Cargo. The stages
//! stand in [`compile`], each with all its diagnostics before the next one begins. Start reading there, then `model` and `ir`, the
//! two shapes that a pipeline has between its text and its Rust.

pub mod codes;
pub mod diagnostic;
pub mod expr;
pub mod ir;
pub mod model;
pub mod names;
pub mod parse;
pub mod render;
pub mod source;
pub mod suggest;
pub mod text;
pub mod types;
pub mod typing;
pub mod units;
