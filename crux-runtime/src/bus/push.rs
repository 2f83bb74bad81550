//! One service behind an HTTP address: posts tasks to it, as many at once as it may get, and says what became of each. It never follows
//! a redirect and never repeats a request: whether a task goes out again is the engine's decision.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use tokio::time::Instant;

use super::answer::{self, DEFAULT_PAUSE, Response};
use super::body;
use crate::machine::{AttemptFailed, Failure, Outcome};
use crate::worker::lane::{self, ReplyTo, Turn, Work};
use crate::worker::task::{Reported, Task};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than the idle time-outs of common servers, so that they seldom close a connection in the moment in which it is used.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// A peer that has vanished without a word is noticed after about twice this.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The time-out of an attempt is the engine's; a call ends by itself this much later.
const RUN_SLACK: Duration = Duration::from_secs(5);
/// How long a call may go on after nobody waits for it any more: its result would still count.
const CANCEL_GRACE: Duration = Duration::from_secs(30);
/// What stands around the result in an answer, and errors.
const ENVELOPE: usize = 16 << 10;

type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub(super) struct Push {
    pub(super) name: String,
    pub(super) url: Uri,
    pub(super) client: HttpClient,
    /// For tasks that must not be sent twice: a kept connection may die in the moment of its use, and then nobody knows.
    fresh: HttpClient,
    max_answer: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The service asked to be left alone until then.
    rests_until: Option<Instant>,
    /// Why the last task or message did not reach it.
    problem: Option<String>,
    /// Whether anything was ever sent to it.
    is_tried: bool,
}

/// What a call gave.
enum Called {
    Reported(Reported),
    /// The task reached nobody.
    Undelivered {
        reason: String,
        rest: Option<Duration>,
    },
}

impl Push {
    pub(super) fn new(name: String, url: Uri, max_result_bytes: usize) -> Self {
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
        Self { name, url, client, fresh, max_answer: max_result_bytes.saturating_add(ENVELOPE), state: Mutex::default() }
    }

    /// Why nothing should be sent to it now.
    pub(super) fn rests(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.rests_until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let problem = state.problem.as_deref().unwrap_or_default();
        Some(format!("{problem}; it is left alone for {} s", left.as_millis().div_ceil(1000)))
    }

    /// Why the last task or message did not reach it.
    pub(super) fn problem(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Whether anything was sent to it since the start of the process.
    pub(super) fn is_tried(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_tried
    }

    /// As [`Self::keep`], and says in the log what is new.
    fn note(&self, problem: Option<&str>, rest: Option<Duration>) {
        if self.keep(problem, rest) {
            match problem {
                Some(problem) => tracing::warn!(service = %self.name, "{problem}"),
                None => tracing::info!(service = %self.name, "the service takes tasks again"),
            }
        }
    }

    /// Keeps what the last call showed of the service: why it did not take what it was sent, and for how long it is to be left alone.
    /// Whether the problem is another than before.
    pub(super) fn keep(&self, problem: Option<&str>, rest: Option<Duration>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = state.problem.as_deref() != problem;
        *state = State { rests_until: rest.map(|rest| Instant::now() + rest), problem: problem.map(str::to_owned), is_tried: true };
        is_new
    }

    async fn call(&self, task: &Task) -> Called {
        let request = match self.request(task) {
            Ok(request) => request,
            Err(text) => return Called::Reported(failed(Outcome::Failed, Failure::INVALID_INPUT, text)),
        };
        let client = if task.is_once() { &self.fresh } else { &self.client };
        let response = match client.request(request).await {
            Ok(response) => response,
            Err(error) if never_sent(&error) => {
                return Called::Undelivered { reason: format!("service `{}` cannot be reached: {}", self.name, root(&error)), rest: None };
            }
            Err(error) => return Called::Reported(self.broke(&error)),
        };
        let (head, body) = response.into_parts();
        if answer::means_later(head.status) {
            let said = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let rest = said.and_then(|said| answer::retry_after(said, Timestamp::now())).unwrap_or(DEFAULT_PAUSE);
            let reason = format!("service `{}` takes no tasks now: it answered {}", self.name, head.status);
            return Called::Undelivered { reason, rest: Some(rest) };
        }
        match Limited::new(body, self.max_answer).collect().await {
            Ok(body) => {
                let response = Response { service: &self.name, status: head.status, body: &body.to_bytes() };
                Called::Reported(response.reported(task.contract))
            }
            Err(error) if error.is::<LengthLimitError>() => {
                let text = format!("service `{}` answered {} and more than {} bytes", self.name, head.status.as_u16(), self.max_answer);
                Called::Reported(failed(Outcome::Failed, Failure::INVALID_RESULT, text))
            }
            Err(error) => Called::Reported(self.broke(&*error)),
        }
    }

    fn request(&self, task: &Task) -> Result<Request<Full<Bytes>>, String> {
        let key = task.key();
        let body = body::task_body(task, &key).map_err(|error| error.to_string())?;
        let said = [("idempotency-key", &*key), ("x-correlation-id", &task.origin.request_id), ("traceparent", &task.origin.traceparent)];
        Ok(self.post(Bytes::from(body), &said))
    }

    /// A request with this body. Texts that headers cannot hold are left out: they are in the body, or nobody's loss.
    pub(super) fn post(&self, body: Bytes, said: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("crux/", env!("CARGO_PKG_VERSION"))));
        for (name, text) in said {
            if !text.is_empty()
                && let Ok(value) = HeaderValue::from_str(text)
            {
                headers.insert(*name, value);
            }
        }
        request
    }

    /// The connection broke when the service may have had the task: nobody knows what became of it.
    fn broke(&self, error: &(dyn std::error::Error + 'static)) -> Reported {
        failed(
            Outcome::Unknown,
            Failure::WORKER_LOST,
            format!("the connection to service `{}` broke before its answer: {}", self.name, root(error)),
        )
    }
}

impl Work for Arc<Push> {
    async fn run(&self, task: Task, reply: &ReplyTo, turn: Turn<'_, Self>) -> Reported {
        if let Some(reported) = lane::not_begun(&task) {
            return reported;
        }
        if let Some(reason) = self.rests() {
            return Reported::Undelivered { reason };
        }
        turn.give_up();
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
                self.note(None, None);
                reported
            }
            Called::Undelivered { reason, rest } => {
                self.note(Some(&reason), rest);
                Reported::Undelivered { reason }
            }
        }
    }
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
    Reported::Failed(AttemptFailed { outcome, failure: Failure::new(name, text), retry: None, after_ms: None })
}

/// Whether not a byte of the request can have reached the service.
fn never_sent(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<hyper::Error>());
    error.is_connect() || source.is_some_and(hyper::Error::is_canceled)
}

/// The innermost cause, which says most.
pub(super) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
