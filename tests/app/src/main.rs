//! The binary under test.

mod pipelines;
mod steps;

use std::process::ExitCode;

fn main() -> ExitCode {
    crux_runtime::main(pipelines::app(steps::steps()))
}
