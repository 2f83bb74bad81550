//! Error responses: RFC 9457 problem documents with a stable `type`, the path of the
//! field that is wrong, and the correlation id under which the log has the request. REST sends them
//! as responses, WebSocket inside its answers, and gRPC as statuses ([`grpc`]).

pub(crate) mod grpc;

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::engine::api;
use crate::store;
use crate::suggest::clip;

/// Every kind of problem. The word is the end of its `type` and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    NotJson,
    TooDeep,
    TooLarge,
    UnsupportedMediaType,
    InvalidRequest,
    InvalidInput,
    NotFound,
    MethodNotAllowed,
    Unauthenticated,
    Forbidden,
    HostNotAllowed,
    OriginNotAllowed,
    ForwardedRefused,
    UnknownWorkflow,
    UnknownEvent,
    UnknownInstance,
    UnknownStep,
    WrongStepType,
    Conflict,
    InvalidState,
    DefinitionMissing,
    LimitExceeded,
    Overloaded,
    TooManyAttempts,
    DiskFull,
    StoreUnavailable,
    StoreFailed,
    InstanceCorrupted,
    ShuttingDown,
    Internal,
}

impl Kind {
    #[cfg(test)]
    pub(crate) const ALL: [Kind; 30] = [
        Kind::NotJson,
        Kind::TooDeep,
        Kind::TooLarge,
        Kind::UnsupportedMediaType,
        Kind::InvalidRequest,
        Kind::InvalidInput,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::Unauthenticated,
        Kind::Forbidden,
        Kind::HostNotAllowed,
        Kind::OriginNotAllowed,
        Kind::ForwardedRefused,
        Kind::UnknownWorkflow,
        Kind::UnknownEvent,
        Kind::UnknownInstance,
        Kind::UnknownStep,
        Kind::WrongStepType,
        Kind::Conflict,
        Kind::InvalidState,
        Kind::DefinitionMissing,
        Kind::LimitExceeded,
        Kind::Overloaded,
        Kind::TooManyAttempts,
        Kind::DiskFull,
        Kind::StoreUnavailable,
        Kind::StoreFailed,
        Kind::InstanceCorrupted,
        Kind::ShuttingDown,
        Kind::Internal,
    ];

    /// Word, status and title.
    pub(crate) fn about(self) -> (&'static str, u16, &'static str) {
        match self {
            Kind::NotJson => ("not-json", 400, "The body is not JSON that can be read"),
            Kind::TooDeep => ("too-deep", 400, "The body is nested too deeply"),
            Kind::TooLarge => ("too-large", 413, "The body is too large"),
            Kind::UnsupportedMediaType => {
                ("unsupported-media-type", 415, "The content type is not JSON")
            }
            Kind::InvalidRequest => {
                ("invalid-request", 400, "The request is not of the form that the route expects")
            }
            Kind::InvalidInput => ("invalid-input", 422, "The value is not of the declared type"),
            Kind::NotFound => ("not-found", 404, "There is no such route"),
            Kind::MethodNotAllowed => {
                ("method-not-allowed", 405, "The route does not have that method")
            }
            Kind::Unauthenticated => {
                ("unauthenticated", 401, "The client has not proved who it is")
            }
            Kind::Forbidden => ("forbidden", 403, "The client may not do that"),
            Kind::HostNotAllowed => {
                ("host-not-allowed", 403, "The Host header names another server")
            }
            Kind::OriginNotAllowed => {
                ("origin-not-allowed", 403, "Pages of that origin may not talk to this server")
            }
            Kind::ForwardedRefused => ("forwarded-refused", 403, "Forwarded requests are refused"),
            Kind::UnknownWorkflow => ("unknown-workflow", 404, "There is no such workflow"),
            Kind::UnknownEvent => ("unknown-event", 404, "There is no such event"),
            Kind::UnknownInstance => ("unknown-instance", 404, "There is no such instance"),
            Kind::UnknownStep => ("unknown-step", 404, "The instance has no such step"),
            Kind::WrongStepType => ("wrong-step-type", 422, "The step is of another type"),
            Kind::Conflict => ("conflict", 409, "It contradicts an earlier request"),
            Kind::InvalidState => ("invalid-state", 409, "The state does not allow it"),
            Kind::DefinitionMissing => {
                ("definition-missing", 409, "This server does not have the instance's definition")
            }
            Kind::LimitExceeded => ("limit-exceeded", 422, "A limit was passed"),
            Kind::Overloaded => ("overloaded", 429, "The server is overloaded"),
            Kind::TooManyAttempts => {
                ("too-many-attempts", 429, "Too many wrong credentials have come")
            }
            Kind::DiskFull => ("disk-full", 507, "The disk is full"),
            Kind::StoreUnavailable => ("store-unavailable", 503, "The store is not available"),
            Kind::StoreFailed => ("store-failed", 500, "The store failed"),
            Kind::InstanceCorrupted => ("instance-corrupted", 500, "The instance is corrupted"),
            Kind::ShuttingDown => ("shutting-down", 503, "The server is shutting down"),
            Kind::Internal => ("internal", 500, "The server has failed"),
        }
    }
}

/// Limits of texts in responses and in the log.
const DETAIL_BYTES_MAX: usize = 2000;
const FIELD_BYTES_MAX: usize = 200;

/// One problem. As a response it is completed by the middleware, which knows the correlation id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    /// Place, reason, fix.
    pub(crate) detail: String,
    /// The path of the field that is to blame.
    pub(crate) field: Option<String>,
    pub(crate) retry_after_s: Option<u32>,
}

/// As it is sent.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    correlation_id: &'a str,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        // Names and values of the client may stand in it, of any length.
        Self {
            kind,
            detail: cut(detail.into(), DETAIL_BYTES_MAX),
            field: None,
            retry_after_s: None,
        }
    }

    /// All connections together have sent more than is held for them.
    pub(crate) fn too_many_bodies() -> Self {
        let text = "too much is being received from all clients together (`limits.max_buffered_bodies`): try again in a moment, and send less at a time";
        Self { retry_after_s: Some(1), ..Self::new(Kind::Overloaded, text) }
    }

    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(cut(field.into(), FIELD_BYTES_MAX));
        self
    }

    /// The field that is to blame is in that one.
    pub(crate) fn within(self, field: &str) -> Self {
        let inner = self
            .field
            .as_ref()
            .map_or_else(|| field.to_owned(), |inner| format!("{field}.{inner}"));
        self.at(inner)
    }

    /// A value that is not of its type; `text` begins with the path of the field, as decoding gives
    /// it. `within`: where in the request the value stands.
    pub(crate) fn invalid(text: &str, within: &str) -> Self {
        let inner = field_of(text);
        let field = match (within.is_empty(), inner) {
            (_, None) => within.to_owned(),
            (true, Some(inner)) => inner,
            (false, Some(inner)) => format!("{within}.{inner}"),
        };
        let problem = Self::new(Kind::InvalidInput, text);
        if field.is_empty() { problem } else { problem.at(field) }
    }

    pub(crate) fn document<'a>(&'a self, correlation_id: &'a str) -> Document<'a> {
        let (word, status, title) = self.kind.about();
        Document {
            r#type: format!("urn:crux:problem:{word}"),
            title,
            status,
            detail: &self.detail,
            field: self.field.as_deref(),
            correlation_id,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.about().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The response with its body.
    pub(crate) fn render(&self, correlation_id: &str) -> Response {
        let body = serde_json::to_vec(&self.document(correlation_id)).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == Kind::Unauthenticated {
            let scheme = HeaderValue::from_static("Bearer realm=\"crux\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Without a body yet: see `middleware`.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<api::Error> for Problem {
    fn from(error: api::Error) -> Self {
        let kind = match &error {
            api::Error::UnknownWorkflow { .. } => Kind::UnknownWorkflow,
            api::Error::UnknownEvent { .. } => Kind::UnknownEvent,
            api::Error::UnknownInstance(_) => Kind::UnknownInstance,
            api::Error::UnknownStep(_) => Kind::UnknownStep,
            api::Error::WrongStepType { .. } => Kind::WrongStepType,
            api::Error::Invalid(text) => return Self::invalid(text, ""),
            api::Error::Conflict(_) => Kind::Conflict,
            api::Error::NotOpen | api::Error::InvalidState(_) | api::Error::Replayed(_) => {
                Kind::InvalidState
            }
            api::Error::DefinitionMissing { .. } => Kind::DefinitionMissing,
            api::Error::Overloaded { retry_after_s, .. } => {
                return Self {
                    retry_after_s: Some(*retry_after_s),
                    ..Self::new(Kind::Overloaded, error.to_string())
                };
            }
            api::Error::OwnerUnreachable { .. } | api::Error::ConcurrentModification => {
                return Self {
                    retry_after_s: Some(1),
                    ..Self::new(Kind::StoreUnavailable, error.to_string())
                };
            }
            api::Error::Limit(_) => Kind::LimitExceeded,
            api::Error::Store(error) => return error.clone().into(),
            api::Error::Corrupted(_) => Kind::InstanceCorrupted,
            api::Error::ShuttingDown => {
                return Self {
                    retry_after_s: Some(1),
                    ..Self::new(Kind::ShuttingDown, error.to_string())
                };
            }
        };
        Self::new(kind, error.to_string())
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        let (kind, retry_after_s) = match &error {
            store::Error::Full(_) => (Kind::DiskFull, Some(10)),
            store::Error::Unavailable(_) => (Kind::StoreUnavailable, Some(1)),
            store::Error::Broken(_) => (Kind::StoreFailed, None),
            // Only when a store is opened, before any request.
            store::Error::InUse { .. }
            | store::Error::Refused(_)
            | store::Error::NotDurable { .. }
            | store::Error::Newer { .. } => (Kind::StoreFailed, None),
        };
        Self { retry_after_s, ..Self::new(kind, error.to_string()) }
    }
}

fn cut(text: String, max_bytes: usize) -> String {
    match clip(&text, max_bytes) {
        Cow::Borrowed(_) => text,
        Cow::Owned(cut) => cut,
    }
}

/// The path that a text of decoding begins with (`address.street: invalid type …`), with the name
/// of a missing or unknown field.
fn field_of(text: &str) -> Option<String> {
    let (path, rest) = match text.split_once(": ") {
        Some((path, rest)) if is_path(path) => (path, rest),
        _ => ("", text),
    };
    let named = ["missing field `", "unknown field `"]
        .iter()
        .find_map(|start| rest.strip_prefix(start)?.split('`').next());
    match (path.is_empty(), named) {
        (true, None) => None,
        (true, Some(name)) => Some(name.to_owned()),
        (false, None) => Some(path.to_owned()),
        // The path of an unknown field ends with it already.
        (false, Some(name)) if path == name || path.ends_with(&format!(".{name}")) => {
            Some(path.to_owned())
        }
        (false, Some(name)) => Some(format!("{path}.{name}")),
    }
}

fn is_path(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '-' | '?'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_field_is_found() {
        for (text, field) in [
            ("missing field `name`", Some("name")),
            ("address: missing field `street`", Some("address.street")),
            ("items[2].price: invalid type: string \"x\", expected f64", Some("items[2].price")),
            ("a: b: c", Some("a")),
            ("invalid type: null, expected struct Input", None),
            ("expected value at line 1 column 1", None),
        ] {
            assert_eq!(field_of(text).as_deref(), field, "{text}");
        }
    }

    #[test]
    fn a_problem_names_its_field_and_its_correlation_id() {
        let problem = Problem::invalid("missing field `price`", "data");
        let json = serde_json::to_value(problem.document("c-1")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:crux:problem:invalid-input", "title": "The value is not of the declared type", "status": 422,
                "detail": "missing field `price`", "field": "data.price", "correlation_id": "c-1",
            })
        );
    }

    #[test]
    fn every_kind_of_problem_has_its_own_word_and_is_documented() {
        let docs = include_str!("../../../docs/api.md");
        let mut words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.about().0).collect();
        for word in &words {
            assert!(docs.contains(&format!("`{word}`")), "docs/api.md does not explain `{word}`");
        }
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Kind::ALL.len());
    }
}
