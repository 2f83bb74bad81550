//! The HTTP triggers of pipelines: `POST` their path, with the workflow's input as body. Answers
//! 202 as soon as the instance is durable, or with `?wait=30s` the whole document when it ends in
//! time.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Query, middleware, status};
use crate::engine::api::{Start, Started};
use crate::ingress::http::body::JsonBody;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::requests;
use crate::ingress::requests::KnownFields;
use crate::ingress::{Shared, follow};
use crate::machine::{Definition, Refusal, Trigger, TriggerSource};

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What is said of a start whose trigger does not want it.
pub(crate) const IGNORED: &str = "The trigger's condition does not hold: nothing was started";
const REPLAY: HeaderName = HeaderName::from_static("idempotent-replay");

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    wait: Option<String>,
}

/// The answer to a start.
#[derive(Debug, Serialize)]
pub(super) struct StartedBody {
    pub(super) workflow_id: String,
    pub(super) status: &'static str,
    pub(super) message: &'static str,
    /// Fields that nobody reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// One HTTP trigger of a current workflow.
#[derive(Clone)]
struct Http {
    definition: &'static Definition,
    trigger: &'static Trigger,
    path: &'static str,
    /// The input has a field `request_id` of its own, which is then not ours.
    owns_request_id: bool,
    fields: Arc<KnownFields>,
}

fn all(ingress: &Shared) -> Vec<Http> {
    let mut all = Vec::new();
    for definition in ingress
        .engine
        .app()
        .workflows
        .iter()
        .map(|workflow| workflow.definition)
        .filter(|definition| !definition.retired)
    {
        for trigger in definition.triggers {
            if let TriggerSource::Http { path } = trigger.source {
                let fields = Arc::new(KnownFields::of(definition));
                all.push(Http {
                    definition,
                    trigger,
                    path,
                    owns_request_id: fields.has("request_id"),
                    fields,
                });
            }
        }
    }
    all
}

pub(super) fn paths(ingress: &Shared) -> impl Iterator<Item = &'static str> {
    all(ingress).into_iter().map(|http| http.path)
}

pub(super) fn router(ingress: &Shared) -> Router<Shared> {
    all(ingress).into_iter().fold(Router::new(), |router, http| {
        let path = http.path;
        let handler = move |State(ingress): State<Shared>,
                            headers: HeaderMap,
                            Query(query): Query<WaitQuery>,
                            body: JsonBody| async move {
            start(&ingress, &http, &headers, query, &body).await
        };
        router.route(path, post(handler))
    })
}

async fn start(
    ingress: &Shared,
    http: &Http,
    headers: &HeaderMap,
    query: WaitQuery,
    body: &JsonBody,
) -> Result<Response, Problem> {
    let wait = query
        .wait
        .as_deref()
        .map(|text| requests::wait(text, ingress.settings.max_wait))
        .transpose()?;
    ingress.check_open()?;
    let raw = body.raw()?;
    let arrived = match (http.trigger.input)(&raw) {
        Ok(arrived) => arrived,
        Err(Refusal::Invalid(text)) => return Err(Problem::invalid(&text, "")),
        Err(Refusal::NotWanted) => {
            let body = StartedBody {
                workflow_id: String::new(),
                status: "ignored",
                message: IGNORED,
                warnings: Vec::new(),
            };
            return Ok(axum::Json(body).into_response());
        }
    };
    // What is mapped is not the input, and has no type.
    let warnings =
        if http.trigger.maps { Vec::new() } else { http.fields.check(&raw, &["request_id"])? };
    let request_id = requests::start_id(&arrived, || {
        request_id(headers, (!http.owns_request_id).then_some(&*raw))
    })?;
    let start = Start {
        workflow: http.definition.workflow.to_owned(),
        input: arrived.input,
        request_id,
        owner: String::new(),
        trigger: format!("http POST {}", http.path),
        traceparent: middleware::traceparent(headers),
    };
    let Some(limit) = wait else {
        return Ok(accepted(&ingress.engine.start(start).await?, warnings));
    };
    let (started, live) = ingress.engine.start_and_follow(start).await?;
    let (shape, fold) = follow::until_ended(ingress, &started, live, limit).await?;
    if !fold.has_ended() {
        return Ok(accepted(&started, warnings));
    }
    let document = status::json(ingress, started.instance, &shape, &fold).await?;
    Ok(with_headers(document, &started, &warnings))
}

/// 202, as clients know it.
pub(super) fn accepted(started: &Started, warnings: Vec<String>) -> Response {
    let workflow_id = started.instance.to_string();
    let body = StartedBody {
        workflow_id,
        status: "processing",
        message: "Workflow started successfully",
        warnings,
    };
    let response = (StatusCode::ACCEPTED, axum::Json(&body)).into_response();
    with_headers(response, started, &body.warnings)
}

/// Also the warnings, for the document of an instance has no place for them. Those that headers
/// cannot hold are left out.
fn with_headers(mut response: Response, started: &Started, warnings: &[String]) -> Response {
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
    struct Said {
        request_id: Option<Box<RawValue>>,
    }
    if let Some(value) = headers.get(IDEMPOTENCY_KEY) {
        let text = value.to_str().map_err(|_| {
            Problem::new(Kind::InvalidRequest, "the header Idempotency-Key is not plain text")
        })?;
        return requests::request_id(text, "Idempotency-Key").map(Some);
    }
    // Serde would read a list as a record, too.
    let may_say =
        |body: &&RawValue| body.get().starts_with('{') && body.get().contains("\"request_id\"");
    let Some(body) = body.filter(may_say) else { return Ok(None) };
    let said = serde_json::from_str::<Said>(body.get()).ok().and_then(|said| said.request_id);
    let Some(said) = said.filter(|said| said.get() != "null") else { return Ok(None) };
    // Passed by in silence it would start twice whatever its sender wants to start once.
    let text = serde_json::from_str::<String>(said.get()).map_err(|_| {
        let shown: String = said.get().chars().take(80).collect();
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
