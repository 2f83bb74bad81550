//! `docs/grpc.md`, with grpcurl as the client.

use std::path::Path;

use crate::kit::languages;
use crate::page::Page;

#[test]
#[ignore = "needs go"]
fn the_page_of_grpc() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpcurl");
    std::fs::create_dir_all(&folder).expect("a folder");
    let grpcurl = languages::grpcurl(&folder);
    // Code of the interface file, which `tests/grpc` makes.
    Page::of("docs/grpc.md").with_program(&grpcurl).try_out(1);
}
