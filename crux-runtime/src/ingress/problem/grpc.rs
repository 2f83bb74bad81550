//! A problem as gRPC says it: the nearest status code, and details as Google's clients read them
//! (`google.rpc.ErrorInfo`, `google.rpc.RetryInfo`), whose reason is the problem's word.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Kind, Problem};

/// Of the details: whose words the reasons are.
const DOMAIN: &str = "crux";

impl Problem {
    pub(crate) fn grpc_status(&self, correlation_id: &str) -> Status {
        let (word, ..) = self.kind.about();
        let mut metadata =
            HashMap::from([("correlation_id".to_owned(), correlation_id.to_owned())]);
        if let Some(field) = &self.field {
            metadata.insert("field".to_owned(), field.clone());
        }
        let mut details = ErrorDetails::with_error_info(word, DOMAIN, metadata);
        if let Some(seconds) = self.retry_after_s {
            details.set_retry_info(Some(Duration::from_secs(seconds.into())));
        }
        Status::with_error_details(code(self.kind), self.detail.clone(), details)
    }

    /// The whole response to a call.
    pub(crate) fn render_grpc(&self, correlation_id: &str) -> Response {
        self.grpc_status(correlation_id).into_http()
    }
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::NotJson
        | Kind::TooDeep
        | Kind::UnsupportedMediaType
        | Kind::InvalidRequest
        | Kind::InvalidInput
        | Kind::WrongStepType => Code::InvalidArgument,
        Kind::TooLarge => Code::OutOfRange,
        // Of routes, which are methods here.
        Kind::NotFound | Kind::MethodNotAllowed => Code::Unimplemented,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden
        | Kind::HostNotAllowed
        | Kind::OriginNotAllowed
        | Kind::ForwardedRefused => Code::PermissionDenied,
        Kind::UnknownWorkflow | Kind::UnknownEvent | Kind::UnknownInstance | Kind::UnknownStep => {
            Code::NotFound
        }
        Kind::Conflict => Code::AlreadyExists,
        Kind::InvalidState | Kind::DefinitionMissing | Kind::LimitExceeded => {
            Code::FailedPrecondition
        }
        Kind::Overloaded | Kind::TooManyAttempts | Kind::DiskFull => Code::ResourceExhausted,
        Kind::StoreUnavailable | Kind::ShuttingDown => Code::Unavailable,
        Kind::InstanceCorrupted => Code::DataLoss,
        Kind::StoreFailed | Kind::Internal => Code::Internal,
    }
}

/// The HTTP status that says the same as a call's response, for metrics and the log: over HTTP each
/// call is answered 200.
pub(crate) fn http_status(response: &Response) -> StatusCode {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response.status();
    };
    match status.code() {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound | Code::Unimplemented => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_word_the_field_and_the_time_to_come_back() {
        let mut problem = Problem::new(Kind::Overloaded, "too many").at("input.a");
        problem.retry_after_s = Some(3);
        let status = problem.grpc_status("req-1");
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "too many"));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("overloaded", "crux"));
        assert_eq!(info.metadata["field"], "input.a");
        assert_eq!(info.metadata["correlation_id"], "req-1");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(3)));
    }

    /// What is the client's fault over HTTP is its fault here, and so on.
    #[test]
    fn codes_and_statuses_agree() {
        for kind in Kind::ALL {
            let (word, status, _) = kind.about();
            let response = Problem::new(kind, "").render_grpc("");
            assert_eq!(response.status(), StatusCode::OK, "{word}");
            let same = http_status(&response).as_u16();
            assert_eq!(same >= 500, status >= 500 && kind != Kind::DiskFull, "{word}: {same}");
        }
    }
}
