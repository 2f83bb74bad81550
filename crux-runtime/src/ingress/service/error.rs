//! Why a request to the service failed.

use crate::engine::api;
use crate::ingress::problem::Problem;

/// Refused before the engine was asked, or by the engine. Transports that answer make a problem of
/// it; the broker's, which cannot answer, looks at the engine's reason.
#[derive(Debug, Clone)]
pub(crate) enum Error {
    Refused(Problem),
    Engine(api::Error),
}

impl Error {
    /// As a problem; `field` is the invalid field of the request.
    pub(crate) fn within(self, field: &str) -> Problem {
        match self {
            Error::Engine(api::Error::Invalid(text)) => Problem::invalid(&text, field),
            error => error.into(),
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<api::Error> for Error {
    fn from(error: api::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(problem) => problem,
            Error::Engine(error) => error.into(),
        }
    }
}
