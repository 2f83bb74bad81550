//! An HTTP client: hyper, which knows nothing of the server.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::eventually;

#[derive(Clone)]
pub struct Client {
    url: String,
    hyper: Hyper<HttpConnector, Full<Bytes>>,
}

/// An answer, its body read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Of a problem document: the last word of its type. Checks that it is one.
    pub fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{}: {:?}",
            self.status,
            self.body
        );
        let document = self.json();
        assert_eq!(document["status"], self.status, "{document}");
        assert_eq!(
            document["correlation_id"].as_str(),
            self.header("x-correlation-id"),
            "{document}"
        );
        for field in ["title", "detail"] {
            assert!(
                document[field].as_str().is_some_and(|text| !text.is_empty()),
                "no {field}: {document}"
            );
        }
        let word =
            document["type"].as_str().and_then(|text| text.strip_prefix("urn:crux:problem:"));
        word.unwrap_or_else(|| panic!("no type: {document}")).to_owned()
    }

    /// Of a problem document: the path of the field.
    pub fn field(&self) -> String {
        self.json()["field"].as_str().unwrap_or_default().to_owned()
    }

    pub fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), hyper: Hyper::builder(TokioExecutor::new()).build_http() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body).await
    }

    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send(Method::POST, path, &all, body.to_string().into_bytes()).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        self.try_send(method, path, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
        let asking = async {
            let response =
                self.hyper.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(Duration::from_secs(60), asking)
            .await
            .map_err(|_| "no answer within 60 s".to_owned())?
    }

    /// What `/metrics` says of this metric: the sum over its labels.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.get("/metrics").await.body.to_vec()).expect("text");
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Until the server owes nobody anything: what it would have sent by now, it has sent.
    pub async fn settled(&self) {
        eventually("everything is settled", || async {
            (self.metric("crux_instances_unsettled").await == 0).then_some(())
        })
        .await;
    }

    /// Starts an instance and gives its id.
    pub async fn start(&self, trigger: &str, input: &Value) -> String {
        let answer = self.post(trigger, input).await;
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        answer.text("workflow_id")
    }

    pub async fn status(&self, id: &str) -> Value {
        let answer = self.get(&format!("/api/v1/workflow/status?workflow_id={id}")).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.json()
    }

    /// Its document once it has this status.
    pub async fn until(&self, id: &str, status: &str) -> Value {
        eventually(&format!("{id} is {status}"), || async {
            let document = self.status(id).await;
            let is = document["metadata"]["status"].as_str().unwrap_or_default();
            let has_ended = ["completed", "failed", "cancelled"].contains(&is);
            assert!(is == status || !has_ended, "it has {is}: {document:#}");
            (is == status).then_some(document)
        })
        .await
    }

    /// Tells an instance something; the answer.
    pub async fn tell(&self, id: &str, command: &str, body: &Value) -> Answer {
        self.post(&format!("/api/v1/workflow/{id}/{command}"), body).await
    }

    /// Reports a step as completed; the answer.
    pub async fn complete(&self, id: &str, step: &str, result: &Value) -> Answer {
        let body = serde_json::json!({"workflow_id": id, "step_id": step, "success": true, "result": result});
        self.post("/api/v1/workflow/step-completed", &body).await
    }
}
