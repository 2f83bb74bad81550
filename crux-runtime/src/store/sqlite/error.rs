//! Translates SQLite's errors for callers: no space, unknown outcome, or broken.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::store::Error;

/// An error on a read, or before the commit: nothing was written.
pub(super) fn before_commit(error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full(error.to_string()),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory,
        ) => Error::Unavailable(error.to_string()),
        _ => Error::Broken(error.to_string()),
    }
}

pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Whether a failed commit or checkpoint leaves unknown what is on the disk. After a failed sync
/// the kernel may have dropped the pages and call the next sync a success, so nothing that follows
/// could be trusted.
pub(super) fn is_fatal(error: &rusqlite::Error) -> bool {
    // The index of the write-ahead log could not grow: the disk is full, and the log itself was
    // written and synced without error.
    let index =
        error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) && !index
}

pub(super) fn broken(what: &str, error: &rusqlite::Error) -> Error {
    Error::Broken(format!("{what}: {error}"))
}

pub(super) fn closed() -> Error {
    Error::Unavailable("it is closed".to_owned())
}
