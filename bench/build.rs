//! Compiles the pipelines of the workloads.

fn main() {
    crux_compiler::cargo::compile("pipelines");
}
