//! The shipped pipelines, compiled, and their step structs: what the binary `crux` runs, and what
//! others can embed with [`app`].

pub mod pipelines;
pub mod steps;
#[cfg(feature = "tools")]
mod tools;

use std::process::ExitCode;

/// Everything that this package's pipelines compiled to, with its step structs.
pub fn app() -> crux_runtime::App {
    pipelines::app(steps::steps())
}

/// The whole program: server and command line.
pub fn main() -> ExitCode {
    #[cfg(feature = "tools")]
    return crux_runtime::main_with(app(), &tools::TOOLS);
    #[cfg(not(feature = "tools"))]
    crux_runtime::main(app())
}
