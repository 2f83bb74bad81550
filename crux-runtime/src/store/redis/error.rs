//! What Redis says, in the words of the contract.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::Error;

/// A command that failed. Whether it was done is known only where the server refused it.
pub(super) fn failed(error: &RedisError) -> Error {
    match error.kind() {
        // Refused before anything was written.
        ErrorKind::Extension if error.code() == Some("OOM") => Error::Full("the memory of Redis (`maxmemory`) is used up".to_owned()),
        ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::CrossSlot | ServerErrorKind::NoPerm)
        | ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::UnexpectedReturnType
        | ErrorKind::Parse => Error::Broken(format!("Redis: {error}")),
        // Connections, time-outs, and states of the server that pass: loading, fail-over, no replicas, a log that cannot be written.
        _ => Error::Unavailable(format!("Redis: {error}")),
    }
}

pub(super) fn closed() -> Error {
    Error::Unavailable("it is closed".to_owned())
}

/// Something is stored, or answered, that this version does not write.
pub(super) fn unreadable(what: &str) -> Error {
    Error::Broken(format!("Redis: {what} cannot be read"))
}
