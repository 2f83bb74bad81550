//! The messages of the gRPC interface, and its client and server as `proto/crux/v1/crux.proto` says
//! them. `tests/grpc_generated.rs` makes the files here.

/// The interface, for clients that ask for it (reflection).
pub(crate) const DESCRIPTOR: &[u8] = include_bytes!("crux.v1.bin");

#[allow(clippy::all, clippy::pedantic, clippy::unwrap_used, rustdoc::all)]
pub(crate) mod v1 {
    include!("crux.v1.rs");
}
