//! Random pipelines that are right by construction, compiled with warnings denied. The tests run
//! each machine beside a model of the language that shares no code with the compiler and the
//! runtime.

#![deny(warnings)]

pub mod make;
pub mod pipelines;

use crux_runtime::machine::{Effects, Instance, Run, Started, Time};

include!(concat!(env!("OUT_DIR"), "/start.rs"));

/// An instance of the workflow `M`.
fn start<M: crux_runtime::machine::Machine>(
    started: &Started,
    now: Time,
    out: &mut Effects,
) -> Result<Box<dyn Instance>, String> {
    Ok(Box::new(Run::<M>::start("i1", started, now, out)?))
}
