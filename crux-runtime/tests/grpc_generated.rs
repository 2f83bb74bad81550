//! `src/proto` says what `proto/crux/v1/crux.proto` says. Users build neither a compiler of it nor this
//! test; `BLESS=1` writes the files anew.

use std::path::Path;

const PROTO: &str = "crux/v1/crux.proto";

#[test]
fn the_generated_files_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compile = |has_comments: bool| {
        let mut compiler = protox::Compiler::new([root.join("proto")]).expect("a folder of protos");
        compiler.include_source_info(has_comments).include_imports(true);
        compiler.open_file(PROTO).unwrap_or_else(|error| panic!("{error:?}"));
        compiler
    };
    let out = tempfile::tempdir().expect("a folder");
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .out_dir(out.path())
        .compile_fds(compile(true).file_descriptor_set())
        .expect("generated code");
    let code = std::fs::read(out.path().join("crux.v1.rs")).expect("the generated code");
    let descriptor = compile(false).encode_file_descriptor_set();
    for (name, fresh) in [("crux.v1.rs", code), ("crux.v1.bin", descriptor)] {
        let path = root.join("src/proto").join(name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &fresh).expect("a writable file");
        }
        let committed = std::fs::read(&path).unwrap_or_default();
        assert!(
            committed == fresh,
            "{} is not what {PROTO} says: run this test with BLESS=1",
            path.display()
        );
    }
}
