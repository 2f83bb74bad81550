//! The HTTP triggers of pipelines: `POST` their path, with the workflow's input as body. Answers
//! 202 as soon as the instance is durable, or with `?wait=30s` the whole document when it ends in
//! time.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::body::JsonBody;
use super::instances;
use crate::engine::api::StartAccepted;
use crate::ingress::caller::Caller;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::query::Query;
use crate::ingress::service::{Begun, IGNORED, StartInput, StartRequest};
use crate::ingress::{Shared, requests};
use crate::machine::{Definition, Trigger, TriggerSource};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAY: HeaderName = HeaderName::from_static("idempotent-replay");

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitQuery {
    wait: Option<String>,
}

/// The answer to a start.
#[derive(Debug, Serialize)]
struct StartedBody<'a> {
    workflow_id: String,
    status: &'static str,
    message: &'static str,
    /// Fields that no step reads.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    /// With it the instance may be followed without a credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    follow_token: Option<&'a str>,
}

/// One HTTP trigger of a current workflow.
#[derive(Clone, Copy)]
struct HttpTrigger {
    definition: &'static Definition,
    trigger: &'static Trigger,
    path: &'static str,
    /// The input has its own field `request_id`, which is then not the start's.
    owns_request_id: bool,
}

fn all(ingress: &Shared) -> impl Iterator<Item = HttpTrigger> {
    let service = &ingress.service;
    let definitions = service.app().workflows.iter().map(|workflow| workflow.definition);
    let triggers = definitions
        .filter(|definition| !definition.retired)
        .flat_map(|definition| definition.triggers.iter().map(move |one| (definition, one)));
    triggers.filter_map(|(definition, trigger)| {
        let TriggerSource::Http { path } = trigger.source else { return None };
        let owns_request_id = service.input_has(definition.workflow, "request_id");
        Some(HttpTrigger { definition, trigger, path, owns_request_id })
    })
}

pub(in crate::ingress) fn paths(ingress: &Shared) -> impl Iterator<Item = &'static str> {
    all(ingress).map(|trigger| trigger.path)
}

pub(in crate::ingress) fn router(ingress: &Shared) -> Router<Shared> {
    all(ingress).fold(Router::new(), |router, http| {
        let handler = move |State(ingress): State<Shared>,
                            caller: Caller,
                            headers: HeaderMap,
                            Query(query): Query<WaitQuery>,
                            body: JsonBody| async move {
            start(&ingress, &caller, http, &headers, query, &body).await
        };
        router.route(http.path, post(handler))
    })
}

async fn start(
    ingress: &Shared,
    caller: &Caller,
    http: HttpTrigger,
    headers: &HeaderMap,
    query: WaitQuery,
    body: &JsonBody,
) -> Result<Response, Problem> {
    let HttpTrigger { definition, trigger, path, owns_request_id } = http;
    let raw = body.raw()?;
    let request = StartRequest {
        what: StartInput::Trigger { definition, trigger, path },
        input: &raw,
        input_field: "",
        wait: query.wait.as_deref(),
    };
    let begun = ingress
        .service
        .start(caller, request, || request_id(headers, (!owns_request_id).then_some(&*raw)))
        .await?;
    let Some(mut begun) = begun else {
        let body = StartedBody {
            workflow_id: String::new(),
            status: "ignored",
            message: IGNORED,
            warnings: &[],
            follow_token: None,
        };
        return Ok(axum::Json(body).into_response());
    };
    match ingress.service.wait(&mut begun).await? {
        None => Ok(accepted(begun)),
        Some(ended) => {
            Ok(with_headers(instances::document(&ended)?, &begun.started, &begun.warnings))
        }
    }
}

/// 202, as clients know it.
pub(super) fn accepted(begun: Begun) -> Response {
    let body = StartedBody {
        workflow_id: begun.started.instance.to_string(),
        status: "processing",
        message: "Workflow started successfully",
        warnings: &begun.warnings,
        follow_token: begun.follow_token.as_deref(),
    };
    let response = (StatusCode::ACCEPTED, axum::Json(&body)).into_response();
    with_headers(response, &begun.started, &begun.warnings)
}

/// Also the warnings, for the document of an instance has no place for them. Those that headers
/// cannot hold are left out.
fn with_headers(mut response: Response, started: &StartAccepted, warnings: &[String]) -> Response {
    for warning in warnings {
        if let Ok(warning) = HeaderValue::from_str(&format!(
            "299 crux {}",
            serde_json::Value::from(warning.as_str())
        )) {
            response.headers_mut().append(header::WARNING, warning);
        }
    }
    if started.replayed {
        response.headers_mut().insert(REPLAY, HeaderValue::from_static("true"));
    }
    let location = format!("/api/v1/workflow/status?workflow_id={}", started.instance);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The header, else the body's field.
pub(super) fn request_id(
    headers: &HeaderMap,
    body: Option<&RawValue>,
) -> Result<Option<String>, Problem> {
    #[derive(Deserialize)]
    struct RequestIdField {
        request_id: Option<Box<RawValue>>,
    }
    if let Some(value) = headers.get(IDEMPOTENCY_KEY) {
        let text = value.to_str().map_err(|_| {
            Problem::new(Kind::InvalidRequest, "the header Idempotency-Key is not plain text")
        })?;
        return requests::request_id(text, "Idempotency-Key").map(Some);
    }
    // Serde would read a list as a record, too.
    let may_have =
        |body: &&RawValue| body.get().starts_with('{') && body.get().contains("\"request_id\"");
    let Some(body) = body.filter(may_have) else { return Ok(None) };
    let field = serde_json::from_str::<RequestIdField>(body.get());
    let given = field.ok().and_then(|field| field.request_id);
    let Some(given) = given.filter(|given| given.get() != "null") else { return Ok(None) };
    // Ignored, it would let something start twice that its sender wants to start once.
    let text = serde_json::from_str::<String>(given.get()).map_err(|_| {
        let shown: String = given.get().chars().take(80).collect();
        Problem::new(
            Kind::InvalidRequest,
            format!("`{shown}` is not a request id: write it as a string"),
        )
        .at("request_id")
    })?;
    requests::request_id(&text, "request_id").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_comes_from_the_header_and_then_from_the_body() {
        let body = RawValue::from_string(r#"{"request_id":"b","x":1}"#.to_owned()).unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(request_id(&headers, Some(&body)).unwrap().as_deref(), Some("b"));
        assert_eq!(request_id(&headers, None).unwrap(), None);
        for none in [r#"{"request_id":null}"#, r#"["request_id"]"#, r#"{"x":{"request_id":5}}"#] {
            let body = RawValue::from_string(none.to_owned()).unwrap();
            assert_eq!(request_id(&headers, Some(&body)).unwrap(), None, "{none}");
        }
        for wrong in ["5", "{}", "true", "\"\""] {
            let body = RawValue::from_string(format!(r#"{{"request_id":{wrong}}}"#)).unwrap();
            assert_eq!(
                request_id(&headers, Some(&body)).unwrap_err().field.as_deref(),
                Some("request_id"),
                "{wrong}"
            );
        }
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("h"));
        assert_eq!(request_id(&headers, Some(&body)).unwrap().as_deref(), Some("h"));
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&"x".repeat(256)).unwrap());
        assert_eq!(
            request_id(&headers, None).unwrap_err().field.as_deref(),
            Some("Idempotency-Key")
        );
    }
}
