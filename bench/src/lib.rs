//! The pipelines and step structs of the workloads; the workloads themselves are the binary's.

pub mod pipelines;
pub mod steps;

/// Everything that `pipelines/` compiled to, with its step structs.
pub fn app() -> crux_runtime::App {
    pipelines::app(steps::steps())
}
