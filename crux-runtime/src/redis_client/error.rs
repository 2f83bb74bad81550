//! Classifies errors of Redis for callers.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// A command that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Refused before anything was written; it may work again when there is room.
    #[error("{0}")]
    Full(String),
    /// It passes by itself, and nothing was done.
    #[error("{0}")]
    Refused(String),
    /// It passes by itself; whether the command was done is not known.
    #[error("{0}")]
    Unavailable(String),
    /// What is stored under the key is of another kind than what is written there: another
    /// client has written it.
    #[error("{0}")]
    WrongType(String),
    /// A person has to act.
    #[error("{0}")]
    Broken(String),
}

impl Error {
    /// Of a command. Whether it was done is known only where the server refused it.
    pub(super) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Extension if error.code() == Some("OOM") => {
                Self::Full("the memory of Redis (`maxmemory`) is used up".to_owned())
            }
            ErrorKind::Extension if error.code() == Some("WRONGTYPE") => {
                Self::WrongType(format!("Redis: {error}"))
            }
            ErrorKind::Extension if matches!(error.code(), Some("NOREPLICAS" | "MISCONF")) => {
                Self::Refused(format!("Redis: {error}"))
            }
            ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask,
            ) => Self::Refused(format!("Redis: {error}")),
            ErrorKind::Server(
                ServerErrorKind::ResponseError
                | ServerErrorKind::CrossSlot
                | ServerErrorKind::NoPerm,
            )
            | ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::Parse => Self::Broken(format!("Redis: {error}")),
            // Connections and timeouts.
            _ => Self::Unavailable(format!("Redis: {error}")),
        }
    }

    pub(super) fn closed() -> Self {
        Self::Unavailable("it is closed".to_owned())
    }
}
