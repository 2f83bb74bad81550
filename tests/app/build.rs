//! Compiles the pipelines of these tests.

fn main() {
    crux_compiler::cargo::compile("pipelines");
}
