//! What a shop's page would do: upload products and ask how they are, over plain HTTP.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// A server that was killed is back long before.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const MAX_ANSWER: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{method} {path}: the server cannot be reached: {reason}")]
    Unreachable { method: Method, path: String, reason: String },
    #[error("{method} {path}: the server answered {status}: {body}")]
    Refused { method: Method, path: String, status: StatusCode, body: String },
    #[error("{method} {path}: the answer is not what was expected: {error}")]
    Strange { method: Method, path: String, error: serde_json::Error },
    #[error("not a request: {0}")]
    Request(#[from] hyper::http::Error),
}

impl Error {
    /// Whether the same request may succeed a little later.
    fn passes(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
            || matches!(self, Self::Refused { status, .. } if *status == StatusCode::SERVICE_UNAVAILABLE)
    }
}

#[derive(Debug, Clone)]
pub struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    port: u16,
}

impl Client {
    pub fn new(port: u16) -> Self {
        Self { http: Http::builder(TokioExecutor::new()).build_http(), port }
    }

    /// `http://127.0.0.1:8080`.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts the workflow of a product and gives the instance's id. Sent until it is answered:
    /// with the same `key`, the second request gets the answer that the first would have got.
    pub async fn upload(&self, product: &Value, key: &str) -> Result<String, Error> {
        #[derive(serde::Deserialize)]
        struct Accepted {
            workflow_id: String,
        }
        let body = product.to_string();
        let accepted: Accepted =
            self.patiently(Method::POST, "/api/v1/workflow/upload", Some((&body, key))).await?;
        Ok(accepted.workflow_id)
    }

    /// The status document.
    pub async fn status(&self, workflow_id: &str) -> Result<Value, Error> {
        self.patiently(
            Method::GET,
            &format!("/api/v1/workflow/status?workflow_id={workflow_id}"),
            None,
        )
        .await
    }

    pub async fn is_ready(&self) -> bool {
        self.once::<Value>(Method::GET, "/health/ready", None).await.is_ok()
    }

    async fn patiently<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &str)>,
    ) -> Result<T, Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.once(method.clone(), path, body).await {
                Err(error) if error.passes() && Instant::now() < until => {
                    sleep(POLL_INTERVAL).await
                }
                other => return other,
            }
        }
    }

    /// `body`: JSON, and the key under which it is known if it is sent again.
    async fn once<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &str)>,
    ) -> Result<T, Error> {
        let mut request = Request::builder().method(method.clone()).uri(self.base() + path);
        if let Some((_, key)) = body {
            request = request
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .header("Idempotency-Key", key);
        }
        let request = request.body(Full::new(Bytes::from(
            body.map_or_else(String::new, |(body, _)| body.to_owned()),
        )))?;
        let unreachable = |reason: String| Error::Unreachable {
            method: method.clone(),
            path: path.to_owned(),
            reason,
        };
        let response =
            self.http.request(request).await.map_err(|error| unreachable(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let body = body.to_bytes();
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body).into_owned();
            return Err(Error::Refused { method, path: path.to_owned(), status, body });
        }
        serde_json::from_slice(&body).map_err(|error| Error::Strange {
            method,
            path: path.to_owned(),
            error,
        })
    }
}
