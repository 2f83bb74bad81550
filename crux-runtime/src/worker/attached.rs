//! A worker that is attached to servers by gRPC streams: it runs step structs for them without a
//! broker. Each server has a [`Link`], which connects again when its stream ends; attempts that ran
//! meanwhile go on, and their results are reported by separate calls.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream;
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};

use super::slots::host;
use crate::backoff::Backoff;
use crate::bus::broker::task_delivery::Order;
use crate::executor::Executor;
use crate::machine::{AttemptFailed, Contract, Failure, Path};
use crate::proto::v1::complete_step_request::Outcome as OutcomeOfStep;
use crate::proto::v1::crux_client::CruxClient;
use crate::proto::v1::task_result::Outcome as OutcomeOfTask;
use crate::proto::v1::work_request::Message as Said;
use crate::proto::v1::work_response::Message as Received;
use crate::proto::v1::{
    Attach, Attached, CompleteStepRequest, Drain, HeartbeatRequest, Returned, StepError,
    Task as TaskMessage, TaskHeartbeat, TaskResult, TaskStarted, WorkRequest, WorkResponse,
};
use crate::supervise;
use crate::task::cancellation::Cancellation;
use crate::task::{Report, Reported, Task};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that does not answer a ping is gone.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause between tries to connect.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Of a task: an input and a payload, which the server bounds.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Results of attempts whose stream has ended are reported by so many calls.
const LATE_TRIES_MAX: u32 = 20;

type Http = InterceptedService<Client<HttpConnector, tonic::body::Body>, Credential>;

/// Of the client that the worker is; without one, `None`.
#[derive(Clone)]
pub(super) struct Credential(Option<AsciiMetadataValue>);

impl Credential {
    pub(super) fn new(key: Option<&str>) -> Result<Self, String> {
        let header = |key: &str| {
            let mut header: AsciiMetadataValue = format!("Bearer {key}")
                .parse()
                .map_err(|_| "the key has characters that no key has".to_owned())?;
            header.set_sensitive(true);
            Ok::<_, String>(header)
        };
        key.map(header).transpose().map(Self)
    }
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// What all links of a worker share.
pub(super) struct AttachedWorker {
    pub(super) contracts: Vec<&'static Contract>,
    pub(super) executor: Executor,
    /// Of each link.
    pub(super) concurrency: usize,
    pub(super) name: String,
    credential: Credential,
}

impl AttachedWorker {
    pub(super) fn new(
        contracts: Vec<&'static Contract>,
        executor: Executor,
        concurrency: usize,
        servers: usize,
        credential: Credential,
    ) -> Self {
        let name = format!("{} {}", host(), std::process::id());
        let concurrency = concurrency.div_ceil(servers.max(1));
        Self { contracts, executor, concurrency, name, credential }
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.contracts.iter().map(|contract| contract.step_type).collect()
    }

    /// Takes tasks from all servers until `stopping`, then ends when what ran is reported.
    pub(super) async fn run(self: &Arc<Self>, servers: Vec<Uri>, stopping: watch::Receiver<bool>) {
        let links = servers.into_iter().map(|server| {
            let link = Link::new(self.clone(), server, stopping.clone());
            supervise::spawn("attached to a server", link.run())
        });
        for ended in join_all(links).await {
            if let Err(error) = ended {
                warn!(%error, "a link to a server was cut off during shutdown");
            }
        }
    }
}

/// A running attempt.
struct Running {
    /// The task's number, on the stream with this number.
    task: u64,
    stream: u64,
    /// For its report when that stream has ended.
    about: CompleteStepRequest,
    cancellation: Cancellation,
}

/// The connection to one server.
struct Link {
    worker: Arc<AttachedWorker>,
    server: Uri,
    client: CruxClient<Http>,
    stopping: watch::Receiver<bool>,
    /// By the number that stands in the path of their reports.
    running: Vec<Option<Running>>,
    free: Vec<u16>,
    reports: mpsc::Sender<Report>,
    reported: mpsc::Receiver<Report>,
    /// The number of the current stream.
    stream: u64,
    /// Results of attempts whose stream has ended, on their way.
    late: JoinSet<()>,
    /// Their heartbeats.
    late_heartbeats: JoinSet<()>,
}

/// The two directions of a stream.
struct Stream {
    out: mpsc::Sender<WorkRequest>,
    incoming: Streaming<WorkResponse>,
    heartbeats: Interval,
}

/// What happens next on a stream.
enum Next {
    Received(Result<Option<WorkResponse>, Status>),
    Reported(Report),
    Heartbeat,
    Stop,
}

/// How a stream has ended.
enum Ended {
    /// The worker shuts down, and everything is reported.
    InOrder,
    /// The server ends, or the connection broke: connect again.
    Again,
}

impl Link {
    fn new(worker: Arc<AttachedWorker>, server: Uri, stopping: watch::Receiver<bool>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .http2_only(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_adaptive_window(true)
            .build(connector);
        let http = InterceptedService::new(http, worker.credential.clone());
        let client = CruxClient::with_origin(http, server.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        // Each attempt reports that it began and how it ended.
        let (reports, reported) = mpsc::channel(2 * worker.concurrency);
        let (running, free, late, late_heartbeats) = Default::default();
        Self {
            worker,
            server,
            client,
            stopping,
            running,
            free,
            reports,
            reported,
            stream: 0,
            late,
            late_heartbeats,
        }
    }

    async fn run(mut self) {
        let mut backoff = Backoff::up_to(PAUSE_MAX);
        let mut is_away = false;
        loop {
            match self.attach().await {
                Ok(stream) => {
                    info!(server = %self.server, "attached");
                    (backoff, is_away) = (Backoff::up_to(PAUSE_MAX), false);
                    match self.work(stream).await {
                        Ended::InOrder => break,
                        Ended::Again => debug!(server = %self.server, "attaching again"),
                    }
                }
                Err(status) if !std::mem::replace(&mut is_away, true) => {
                    warn!(server = %self.server, reason = %reason(&status), "cannot attach to the server; trying again");
                }
                Err(status) => {
                    debug!(server = %self.server, reason = %reason(&status), "still cannot attach")
                }
            }
            if self.is_stopping() && self.is_idle() {
                break;
            }
            let pause = tokio::time::sleep(backoff.pause());
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some(report) = self.reported.recv() => self.report_late(report),
                }
            }
        }
        while self.late.join_next().await.is_some() {}
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    fn is_idle(&self) -> bool {
        self.running.iter().all(Option::is_none)
    }

    async fn attach(&mut self) -> Result<Stream, Status> {
        // Room for a result of each attempt, and for what the worker says of itself.
        let (out, outgoing) = mpsc::channel(self.worker.concurrency + 8);
        let attach = Attach {
            name: self.worker.name.clone(),
            step_types: self.worker.names().into_iter().map(str::to_owned).collect(),
            concurrency: u32::try_from(self.worker.concurrency).unwrap_or(u32::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        // There is room, and the receiver is here.
        let _ = out.try_send(WorkRequest { message: Some(Said::Attach(attach)) });
        let outgoing = stream::unfold(outgoing, |mut outgoing| async move {
            outgoing.recv().await.map(|said| (said, outgoing))
        });
        let mut incoming = self.client.work(outgoing).await?.into_inner();
        let first = incoming.message().await?.and_then(|first| first.message);
        let Some(Received::Attached(Attached { heartbeat_interval_ms })) = first else {
            return Err(Status::internal("the server did not say that the worker is attached"));
        };
        let every = Duration::from_millis(u64::from(heartbeat_interval_ms.max(1)));
        let mut heartbeats = interval(every);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.stream += 1;
        Ok(Stream { out, incoming, heartbeats })
    }

    /// Takes tasks and reports results, until the stream ends.
    async fn work(&mut self, mut stream: Stream) -> Ended {
        let mut stopping = self.stopping.clone();
        let mut has_drained = false;
        loop {
            let next = tokio::select! {
                received = stream.incoming.message() => Next::Received(received),
                Some(report) = self.reported.recv() => Next::Reported(report),
                _ = stream.heartbeats.tick() => Next::Heartbeat,
                _ = stopping.wait_for(|stopping| *stopping), if !has_drained => Next::Stop,
            };
            let said = match next {
                Next::Received(Ok(Some(WorkResponse { message }))) => {
                    // Without a message: from a newer server, and nothing for us.
                    message.and_then(|received| self.take(received))
                }
                Next::Received(Ok(None)) if has_drained => return Ended::InOrder,
                Next::Received(Ok(None)) => return Ended::Again,
                Next::Received(Err(_)) if has_drained && self.is_idle() => return Ended::InOrder,
                Next::Received(Err(status)) => {
                    warn!(server = %self.server, reason = reason(&status), running = self.count(), "the stream of tasks broke off; attaching again");
                    return Ended::Again;
                }
                Next::Reported(report) => self.report(report),
                Next::Heartbeat => {
                    self.say_that_others_live();
                    Some(Said::Heartbeat(TaskHeartbeat { tasks: Vec::new() }))
                }
                Next::Stop => {
                    has_drained = true;
                    Some(Said::Drain(Drain {}))
                }
            };
            if let Some(said) = said
                && stream.out.send(WorkRequest { message: Some(said) }).await.is_err()
            {
                return Ended::Again;
            }
        }
    }

    fn count(&self) -> usize {
        self.running.iter().flatten().count()
    }

    /// A message of the server; the immediate answer to it, if there is one.
    fn take(&mut self, received: Received) -> Option<Said> {
        match received {
            Received::Attached(_) => None,
            Received::Stopping(_) => {
                info!(server = %self.server, "the server is shutting down; attaching again when it is back");
                None
            }
            Received::Cancelled(cancel) => {
                let is_it = |running: &&Running| {
                    running.task == cancel.task && running.stream == self.stream
                };
                if let Some(running) = self.running.iter().flatten().find(is_it) {
                    running.cancellation.cancel();
                }
                None
            }
            Received::Task(message) => {
                let number = message.task;
                match self.begin(message) {
                    Ok(()) => None,
                    Err(outcome) => Some(result(number, outcome)),
                }
            }
        }
    }

    /// Begins an attempt; the error is its result.
    fn begin(&mut self, message: TaskMessage) -> Result<(), OutcomeOfTask> {
        let contract =
            self.worker.contracts.iter().find(|contract| contract.step_type == message.step_type);
        let Some(contract) = contract else {
            let text = format!("this worker has no step struct for `{}`", message.step_type);
            return Err(OutcomeOfTask::Error(error(
                Failure::new(Failure::ERROR, text),
                None,
                None,
            )));
        };
        let about = CompleteStepRequest {
            workflow_id: message.workflow_id.clone(),
            step_id: message.step_id.clone(),
            step_type: message.step_type.clone(),
            attempt: message.attempt,
            outcome: None,
            completion_token: message.completion_token.clone(),
        };
        let number = message.task;
        let task = task(contract, message).map_err(|text| {
            OutcomeOfTask::Error(error(Failure::new(Failure::INVALID_INPUT, text), None, None))
        })?;
        let returned = || OutcomeOfTask::Returned(Returned {});
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u16::try_from(self.running.len()).map_err(|_| returned())?;
                self.running.push(None);
                slot
            }
        };
        let task = Task { path: Path::new(slot), ..task };
        let cancellation = task.cancellation.clone();
        if self.worker.executor.submit(task, &self.reports).is_err() {
            self.free.push(slot);
            return Err(returned());
        }
        if let Some(place) = self.running.get_mut(usize::from(slot)) {
            *place = Some(Running { task: number, stream: self.stream, about, cancellation });
        }
        Ok(())
    }

    /// What a report is to the server, if its task is of this stream.
    fn report(&mut self, report: Report) -> Option<Said> {
        let slot = usize::from(report.path.node);
        let running = self.running.get_mut(slot)?.as_mut()?;
        if running.stream != self.stream {
            self.report_late(report);
            return None;
        }
        let task = running.task;
        Some(match report.what {
            Reported::Began => Said::Started(TaskStarted { task }),
            Reported::Heartbeat => Said::Heartbeat(TaskHeartbeat { tasks: vec![task] }),
            Reported::Delivered => return None,
            what => {
                self.leave(report.path);
                result(task, outcome(what))
            }
        })
    }

    /// The end of an attempt whose stream has ended: a call says it. The server may have given the
    /// task to another meanwhile, which it knows how to tell apart.
    fn report_late(&mut self, report: Report) {
        if matches!(report.what, Reported::Began | Reported::Heartbeat | Reported::Delivered) {
            return;
        }
        let Some(Running { about, .. }) = self.leave(report.path) else { return };
        let outcome = match outcome(report.what) {
            OutcomeOfTask::ResultJson(result) => OutcomeOfStep::ResultJson(result),
            OutcomeOfTask::Error(error) => OutcomeOfStep::Error(error),
            // The server has given it to another already.
            OutcomeOfTask::Returned(_) => return,
        };
        let request = CompleteStepRequest { outcome: Some(outcome), ..about };
        let (mut client, server) = (self.client.clone(), self.server.clone());
        self.late.spawn(async move {
            let mut backoff = Backoff::up_to(PAUSE_MAX);
            for _ in 0..LATE_TRIES_MAX {
                match client.complete_step(request.clone()).await {
                    Ok(_) => return,
                    Err(status) if is_passing(&status) => {
                        tokio::time::sleep(backoff.pause()).await;
                    }
                    // Another has done it, or it is not waited for.
                    Err(status) => {
                        let reason = reason(&status);
                        return info!(%server, workflow_id = request.workflow_id, step_id = request.step_id, reason, "a late result was refused");
                    }
                }
            }
            warn!(%server, workflow_id = request.workflow_id, step_id = request.step_id, "a late result could not be reported; the server treats the attempt as lost");
        });
    }

    /// Heartbeats of attempts whose stream has ended, which this one's do not speak for.
    fn say_that_others_live(&mut self) {
        // Those of before have ended long ago, or the server does not answer.
        if !self.late_heartbeats.is_empty() {
            while self.late_heartbeats.try_join_next().is_some() {}
            return;
        }
        let others = self.running.iter().flatten().filter(|other| other.stream != self.stream);
        for Running { about, .. } in others {
            let request = HeartbeatRequest {
                workflow_id: about.workflow_id.clone(),
                step_id: about.step_id.clone(),
                attempt: about.attempt,
                step_type: about.step_type.clone(),
                completion_token: about.completion_token.clone(),
            };
            let mut client = self.client.clone();
            self.late_heartbeats.spawn(async move {
                // Refused or lost, the next one follows.
                if let Err(status) = client.heartbeat(request).await {
                    debug!(reason = reason(&status), "a heartbeat was not taken");
                }
            });
        }
    }

    fn leave(&mut self, path: Path) -> Option<Running> {
        let running = self.running.get_mut(usize::from(path.node))?.take()?;
        self.free.push(path.node);
        Some(running)
    }
}

/// Whether the same may work in a moment.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
    )
}

/// For people: what the server said, or why there is no server.
fn reason(status: &Status) -> String {
    let mut source = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    if text.is_empty() { status.code().to_string() } else { text }
}

fn result(task: u64, outcome: OutcomeOfTask) -> Said {
    Said::Result(TaskResult { task, outcome: Some(outcome) })
}

/// How an attempt has ended.
fn outcome(what: Reported) -> OutcomeOfTask {
    match what {
        Reported::Completed { result } => {
            OutcomeOfTask::ResultJson(String::from(Box::<str>::from(result)))
        }
        Reported::Failed(AttemptFailed { failure, retry, after_ms, .. }) => {
            OutcomeOfTask::Error(error(failure, retry, after_ms))
        }
        Reported::Undelivered { .. }
        | Reported::Returned
        | Reported::Began
        | Reported::Heartbeat
        | Reported::Delivered => OutcomeOfTask::Returned(Returned {}),
    }
}

fn error(failure: Failure, retry: Option<bool>, after_ms: Option<u64>) -> StepError {
    let Failure { name, message } = failure;
    let after = after_ms.map_or_else(String::new, |after| format!("{after}ms"));
    StepError { name: name.into_owned(), message, retry, after }
}

/// The task as the executor runs it.
fn task(contract: &'static Contract, message: TaskMessage) -> Result<Task, String> {
    let json = |text: String| RawValue::from_string(text).map_err(|error| error.to_string());
    let TaskMessage { workflow_id, step_id, step_type, attempt, key, workflow, path, .. } = message;
    let order = Order {
        workflow_id: workflow_id.parse().map_err(|error: crate::id::Error| error.to_string())?,
        step_id: step_id.parse().map_err(|error: crate::id::Error| error.to_string())?,
        step_type,
        attempt,
        key,
        input: json(message.input_json)?,
        payload: match message.payload_json.is_empty() {
            true => None,
            false => Some(json(message.payload_json)?),
        },
        workflow,
        path,
        request_id: message.request_id,
        traceparent: message.traceparent,
        // The link says for all attempts together that they are alive.
        heartbeat_ms: None,
        once: message.once,
    };
    Ok(order.task(contract))
}
