//! The gRPC interface of the built binary, with clients that others wrote: Python's grpcio, Go's
//! grpc-go and grpcurl. The code of the messages comes from the published interface file, by the
//! tools that users have.
#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod clients;
mod services;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crux_test_kit as kit;
use kit::{fences, languages};

const BINARY: &str = env!("CARGO_BIN_EXE_crux");

/// Where libraries and programs are kept for the next time.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpc").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn fixture(name: &str) -> PathBuf {
    fences::project().join("tests/fixtures/grpc").join(name)
}

/// A Python with gRPC, which finds the code of the messages in the folder beside it.
fn python() -> &'static (PathBuf, PathBuf) {
    static PYTHON: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let python = languages::python(&folder("python"), &fixture("requirements.txt"));
        let code = folder("python-code");
        languages::run(
            protoc(&python).args(["--python_out=.", "--grpc_python_out=."]).current_dir(&code),
        );
        (python, code)
    })
}

/// The compiler of the interface file, as Python carries it.
fn protoc(python: &Path) -> Command {
    let mut protoc = Command::new(python);
    let proto = fences::project().join("crux-runtime/proto");
    protoc.args(["-m", "grpc_tools.protoc", "crux/v1/crux.proto"]);
    protoc.arg(format!("-I{}", proto.display()));
    protoc
}
