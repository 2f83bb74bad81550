//! Everything as it should be.

#[path = "../letters/generated/pipelines.rs"]
#[allow(dead_code)]
mod pipelines;
#[path = "../letters/steps.rs"]
#[allow(dead_code)]
mod steps;

fn app() -> crux_runtime::App {
    pipelines::app(pipelines::Steps { file_letter: steps::FileStep, write_letter: steps::LetterStep })
}

const _: fn() -> crux_runtime::App = app;

fn main() {}
