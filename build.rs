//! Compiles `pipelines/` into `OUT_DIR`; what is wrong with them is shown where it stands.

fn main() {
    crux_compiler::cargo::compile("pipelines");
}
