//! Query parameters of requests.

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Shared;
use super::problem::{Kind, Problem};
use crate::suggest::plain;

/// The query, of a type that refuses names which it does not know.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        query(&parts.uri).map(Self)
    }
}

pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    match axum::extract::Query::<T>::try_from_uri(uri) {
        Ok(axum::extract::Query(query)) => Ok(query),
        Err(rejection) => {
            let text = std::error::Error::source(&rejection)
                .map_or_else(|| rejection.to_string(), ToString::to_string);
            let text = match text.split_once(": ") {
                Some((name, reason)) => format!("{name}: {}", plain(reason)),
                None => plain(&text),
            };
            Err(Problem { kind: Kind::InvalidRequest, ..Problem::invalid(&text, "") })
        }
    }
}
