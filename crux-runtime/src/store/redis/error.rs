//! Translates errors of Redis to those of the store contract.

use crate::redis_client;
use crate::store::Error;

impl From<redis_client::Error> for Error {
    fn from(error: redis_client::Error) -> Self {
        match error {
            redis_client::Error::Full(text) => Self::Full(text),
            redis_client::Error::Refused(text) | redis_client::Error::Unavailable(text) => {
                Self::Unavailable(text)
            }
            redis_client::Error::WrongType(text) | redis_client::Error::Broken(text) => {
                Self::Broken(text)
            }
        }
    }
}

pub(super) fn closed() -> Error {
    Error::Unavailable("it is closed".to_owned())
}

/// Something is stored, or answered, that this version does not write.
pub(super) fn unreadable(what: &str) -> Error {
    Error::Broken(format!("Redis: {what} cannot be read"))
}
