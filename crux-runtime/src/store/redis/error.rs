//! What Redis says, in the words of the contract.

use crate::redis;
use crate::store::Error;

impl From<redis::Error> for Error {
    fn from(error: redis::Error) -> Self {
        match error {
            redis::Error::Full(text) => Self::Full(text),
            redis::Error::Refused(text) | redis::Error::Unavailable(text) => Self::Unavailable(text),
            redis::Error::WrongType(text) | redis::Error::Broken(text) => Self::Broken(text),
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
