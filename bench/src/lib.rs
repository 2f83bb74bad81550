//! The pipelines and step structs of the workloads; the workloads themselves are the binary's.

pub mod pipelines;
pub mod steps;
