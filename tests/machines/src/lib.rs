//! Pipelines with every construct of the language, compiled with warnings denied; the tests drive their machines without an engine.

#![deny(warnings)]

pub mod pipelines;
pub mod steps;
