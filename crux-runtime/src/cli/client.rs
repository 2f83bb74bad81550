//! The HTTP client of the command line: one request to a running server, and its response or an
//! error.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request as ClientRequest;

use super::{Common, Failure};

/// The variable with the key or token for the server.
pub(super) const CREDENTIAL: &str = "CRUX_API_KEY";

/// Runs a command's work.
pub(super) fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("cannot begin: {error}")))?;
    runtime.block_on(work)
}

pub(super) async fn get(common: &Common, path: &str) -> Result<Value, Failure> {
    ask(common, Method::GET, path, None).await
}

/// The JSON of a response that is meaningful even if it is not a success, as `/health`'s.
pub(super) async fn get_whatever_status(
    common: &Common,
    path: &str,
) -> Result<(StatusCode, Value), Failure> {
    let (status, body) = send(common, Method::GET, path, None).await?;
    match serde_json::from_slice(&body) {
        Ok(document) => Ok((status, document)),
        Err(_) => answer(status, &body).map(|document| (status, document)),
    }
}

pub(super) async fn post(
    common: &Common,
    path: &str,
    body: &impl Serialize,
) -> Result<Value, Failure> {
    let body = serde_json::to_vec(body)
        .map_err(|error| Failure::usage(format!("it cannot be sent: {error}")))?;
    ask(common, Method::POST, path, Some(body)).await
}

async fn ask(
    common: &Common,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Value, Failure> {
    let (status, body) = send(common, method, path, body).await?;
    answer(status, &body)
}

async fn send(
    common: &Common,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<(StatusCode, Bytes), Failure> {
    let url = common.url()?;
    let mut request = Request::builder().method(method).uri(format!("{url}{path}"));
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(credential) = credential()? {
        request = request.header(header::AUTHORIZATION, credential);
    }
    let body = body.map_or_else(Bytes::new, Bytes::from);
    let request = request.body(Full::new(body)).map_err(|error| {
        Failure::usage(format!("`{url}{path}` is not a valid address: {error}"))
    })?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let unreachable = |error: &dyn std::fmt::Display| {
        Failure::unreachable(format!(
            "no server answers at {url}: {error}; start one with `crux serve`"
        ))
    };
    let response =
        client.request(request).await.map_err(|error| unreachable(&innermost(&error)))?;
    let status = response.status();
    let body =
        response.into_body().collect().await.map_err(|error| unreachable(&error))?.to_bytes();
    Ok((status, body))
}

/// The JSON of a good answer; of another, what its problem document says.
fn answer(status: StatusCode, body: &[u8]) -> Result<Value, Failure> {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    match value {
        Some(value) if status.is_success() => Ok(value),
        Some(problem) if problem["detail"].is_string() => {
            Err(Failure::refused(problem_text(&problem)))
        }
        _ => Err(Failure::refused(format!(
            "the server answered {status}: {}",
            String::from_utf8_lossy(body.get(..200).unwrap_or(body))
        ))),
    }
}

/// `detail (field; correlation id)`.
pub(super) fn problem_text(problem: &Value) -> String {
    let text = |name: &str| problem[name].as_str().unwrap_or_default();
    let detail = text("detail");
    match text("correlation_id") {
        "" => detail.to_owned(),
        correlation_id => format!("{detail} (correlation id {correlation_id})"),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The WebSocket address of the same server.
pub(super) fn socket_url(common: &Common, query: &str) -> Result<String, Failure> {
    let url = common.url()?;
    Ok(format!("ws://{}/ws{query}", url.trim_start_matches("http://")))
}

/// The request that opens a socket.
pub(super) fn socket_request(url: &str) -> Result<ClientRequest, Failure> {
    let mut request = url
        .into_client_request()
        .map_err(|error| Failure::usage(format!("`{url}` is not a valid address: {error}")))?;
    if let Some(credential) = credential()? {
        request.headers_mut().insert(header::AUTHORIZATION, credential);
    }
    Ok(request)
}

/// The key or token that the server asks for. Not a flag: others on the machine see the arguments
/// of a process.
fn credential() -> Result<Option<HeaderValue>, Failure> {
    let wrong = || {
        Failure::usage(format!(
            "{CREDENTIAL}: not a key or token: it has spaces, or characters that no header can have"
        ))
    };
    let text = match std::env::var(CREDENTIAL) {
        Err(std::env::VarError::NotPresent) => return Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => return Err(wrong()),
        Ok(text) if text.is_empty() => return Ok(None),
        Ok(text) => text,
    };
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Why no socket was opened.
pub(super) fn refused(response: &hyper::Response<Option<Vec<u8>>>) -> Failure {
    let problem =
        response.body().as_deref().and_then(|body| serde_json::from_slice::<Value>(body).ok());
    match problem {
        Some(problem) if problem["detail"].is_string() => Failure::refused(problem_text(&problem)),
        _ => Failure::refused(format!("the server answered {}", response.status())),
    }
}
