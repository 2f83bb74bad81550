//! Floors: the least that a workload's promise costs on this machine, measured in the same run.
//! They make the same rows of the same bytes durable, send the same messages, or answer the same
//! requests, and leave out everything else.

pub mod amqp;
pub mod calls;
mod committer;
pub mod echo;
pub mod remote;
pub mod rows;
pub mod sketch;
pub mod streams;
