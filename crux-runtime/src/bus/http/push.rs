//! One service behind an HTTP address: posts tasks to it, up to its concurrency, and reports the
//! result of each. It never follows a redirect and never repeats a request: whether a task goes out
//! again is the engine's decision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use tokio::sync::watch;

use super::response;
use crate::bus::http::circuit_breaker::CircuitBreaker;
use crate::bus::http::response::{Meaning, Response};
use crate::bus::task_body;
use crate::executor::queue;
use crate::executor::queue::{ReplyTo, RunnerPermit, Work};
use crate::machine;
use crate::machine::{AttemptFailed, Failure, Outcome};
use crate::task::{Reported, Task};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than the idle timeouts of common servers, so that they seldom close a connection in the
/// moment in which it is used.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// A peer that has vanished without a word is noticed after about twice this.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The timeout of an attempt is the engine's; a call ends by itself this much later.
const RUN_SLACK: Duration = Duration::from_secs(5);
/// How long a call may continue after its timeout: its result would still count.
const CANCEL_GRACE: Duration = Duration::from_secs(30);
/// Size of the response around the result, and of errors.
const ENVELOPE: usize = 16 << 10;

type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) struct Push {
    pub(crate) name: String,
    pub(crate) url: Uri,
    pub(crate) client: HttpClient,
    /// For tasks that must not be sent twice: a reused connection may break just when it is used,
    /// and then the outcome is unknown.
    fresh: HttpClient,
    max_answer: usize,
    /// The configured meaning of statuses.
    statuses: BTreeMap<u16, Meaning>,
    pub(crate) breaker: CircuitBreaker,
}

/// The outcome of a call.
enum Called {
    Reported(Reported),
    /// The task was not delivered.
    Undelivered {
        reason: String,
        /// For how long it asks to be left alone.
        said: Option<Duration>,
    },
}

impl Push {
    /// `back` receives the time at which refused tasks should be sent again.
    pub(crate) fn new(
        name: String,
        url: Uri,
        statuses: BTreeMap<u16, Meaning>,
        max_result_bytes: usize,
        back: watch::Sender<u64>,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE / 6));
        connector.set_keepalive_retries(Some(6));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT);
        let client = builder.build(connector.clone());
        let fresh = builder.pool_max_idle_per_host(0).build(connector);
        let max_answer = max_result_bytes.saturating_add(ENVELOPE);
        Self { name, url, client, fresh, max_answer, statuses, breaker: CircuitBreaker::new(back) }
    }

    async fn call(&self, task: &Task) -> Called {
        let request = match self.request(task) {
            Ok(request) => request,
            Err(text) => {
                return Called::Reported(failed(Outcome::Failed, Failure::INVALID_INPUT, text));
            }
        };
        let client = if task.is_once() { &self.fresh } else { &self.client };
        let response = match client.request(request).await {
            Ok(response) => response,
            Err(error) if never_sent(&error) => {
                return Called::Undelivered {
                    reason: format!("service `{}` cannot be reached: {}", self.name, root(&error)),
                    said: None,
                };
            }
            Err(error) => return Called::Reported(self.broke(&error)),
        };
        let (head, body) = response.into_parts();
        let meaning = self
            .statuses
            .get(&head.status.as_u16())
            .copied()
            .or_else(|| response::usual_meaning(head.status));
        if meaning == Some(Meaning::Later) {
            let said = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let said = said.and_then(|said| response::retry_after(said, Timestamp::now()));
            let reason =
                format!("service `{}` takes no tasks now: it answered {}", self.name, head.status);
            return Called::Undelivered { reason, said };
        }
        // Of an answer that says failed only the beginning is of interest.
        let limit = if head.status.is_success() { self.max_answer } else { ENVELOPE };
        match read(body, limit).await {
            Ok((body, is_whole)) if is_whole || !head.status.is_success() => {
                let response = Response { service: &self.name, status: head.status, body: &body };
                Called::Reported(response.reported(task.contract, meaning))
            }
            Ok(_) => {
                let text = format!(
                    "service `{}` answered {} and more than {limit} bytes",
                    self.name,
                    head.status.as_u16()
                );
                Called::Reported(failed(Outcome::Failed, Failure::INVALID_RESULT, text))
            }
            Err(error) => Called::Reported(self.broke(&error)),
        }
    }

    fn request(&self, task: &Task) -> Result<Request<Full<Bytes>>, String> {
        let key = task.key();
        let body = task_body::task_body(task, &key).map_err(|error| error.to_string())?;
        let said = [
            ("idempotency-key", &*key),
            ("x-correlation-id", task.origin.correlation_id()),
            ("traceparent", &task.origin.traceparent),
        ];
        Ok(self.post(Bytes::from(body), &said))
    }

    /// A request with this body. Texts that headers cannot hold are left out: they are in the body
    /// anyway, or not needed.
    pub(crate) fn post(&self, body: Bytes, said: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("crux/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, text) in said {
            if !text.is_empty()
                && let Ok(value) = HeaderValue::from_str(text)
            {
                headers.insert(*name, value);
            }
        }
        request
    }

    /// The connection broke when the service may have had the task: its outcome is unknown.
    fn broke(&self, error: &(dyn std::error::Error + 'static)) -> Reported {
        failed(
            Outcome::Unknown,
            Failure::WORKER_LOST,
            format!(
                "the connection to service `{}` broke before its answer: {}",
                self.name,
                root(error)
            ),
        )
    }
}

impl Work for Arc<Push> {
    async fn run(&self, task: Task, reply: &ReplyTo, permit: RunnerPermit<'_, Self>) -> Reported {
        if let Some(reported) = queue::not_begun(&task) {
            return reported;
        }
        permit.release();
        let of = machine::hash(&[&task.instance.0, task.path_text.as_bytes()]);
        let pass = tokio::select! {
            pass = self.breaker.enter(of) => pass,
            () = task.cancelled() => return queue::not_begun(&task).unwrap_or(Reported::Returned),
        };
        let Some(pass) = pass else {
            // The process ends. A task that must not be sent twice is given back explicitly: it was
            // not sent.
            let reason =
                format!("service `{}` did not take it before the server was shut down", self.name);
            return if task.is_once() {
                Reported::Returned
            } else {
                Reported::Undelivered { reason, after_ms: None }
            };
        };
        if !task.contract.reports_started {
            // From here on its time counts; a service that reports its start does so itself.
            reply.send(Reported::Began).await;
        }
        let called = tokio::select! {
            called = self.call(&task) => called,
            text = too_long(&task) => {
                Called::Reported(failed(Outcome::Unknown, Failure::TIMEOUT, format!("service `{}` did not answer: {text}", self.name)))
            }
        };
        match called {
            Called::Reported(reported) => {
                if pass.got_through() {
                    tracing::info!(service = %self.name, "the service takes tasks again");
                }
                reported
            }
            Called::Undelivered { reason, said } => {
                if pass.turned_away(&reason, said) {
                    tracing::warn!(service = %self.name, "{reason}");
                }
                Reported::Undelivered {
                    reason,
                    after_ms: said.and_then(|said| u64::try_from(said.as_millis()).ok()),
                }
            }
        }
    }
}

/// A body's beginning, and whether that is all of it.
async fn read(mut body: Incoming, limit: usize) -> Result<(Bytes, bool), hyper::Error> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = limit.saturating_sub(all.len());
        all.extend_from_slice(data.get(..room).unwrap_or(&data));
        if data.len() > room {
            return Ok((all.freeze(), false));
        }
    }
    Ok((all.freeze(), true))
}

/// Ends when a call has gone on for so long that nothing useful can come of it.
async fn too_long(task: &Task) -> String {
    let bound = async {
        match task.policy.run_ms {
            Some(run_ms) => tokio::time::sleep(Duration::from_millis(run_ms) + RUN_SLACK).await,
            None => std::future::pending().await,
        }
    };
    let cancelled = async {
        task.cancelled().await;
        tokio::time::sleep(CANCEL_GRACE).await;
    };
    tokio::select! {
        () = bound => format!("its time of {} ms is over", task.policy.run_ms.unwrap_or_default()),
        () = cancelled => format!("cancelled, and {} s have passed since", CANCEL_GRACE.as_secs()),
    }
}

fn failed(outcome: Outcome, name: &'static str, text: String) -> Reported {
    Reported::Failed(AttemptFailed {
        outcome,
        failure: Failure::new(name, text),
        retry: None,
        after_ms: None,
    })
}

/// Whether not a byte of the request can have reached the service.
fn never_sent(error: &Error) -> bool {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<hyper::Error>());
    error.is_connect() || source.is_some_and(hyper::Error::is_canceled)
}

/// The innermost cause, which says most.
pub(crate) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
