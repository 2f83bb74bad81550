//! The gateway: one socket over which a client starts instances, sends events, completes steps and
//! follows as many instances as it likes. Each request may carry an `id`, which its answer repeats.
//! Requests of one socket are worked on concurrently, within a limit; beyond it the socket is not
//! read. Starts that only wait for the end of their instances do not count against it; they have
//! another limit.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, interval_at};
use tracing::{debug, warn};

use super::{
    AUTH_TIMEOUT, EXPIRED, Ending, NOT_AUTHENTICATED, PEER_TIMEOUT, PING_INTERVAL, SendError,
    answer_close, close, close_reason, code, send,
};
use crate::id::InstanceId;
use crate::ingress::caller::Caller;
use crate::ingress::connection::ConnectionPermit;
use crate::ingress::operations::Operation;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::requests::{self, CompletionBody, EventBody};
use crate::ingress::service::{Begun, Follow, IGNORED, StartInput, StartRequest};
use crate::ingress::{Shared, json as parse, middleware};
use crate::store::Seq;
use crate::suggest::hint;
use crate::view::messages;

/// Requests of one socket that are worked on.
const CONCURRENT_REQUESTS: usize = 64;
/// Starts whose answer waits for the end of the instance.
const WAITS_MAX: usize = 1000;
/// Instances that one socket follows.
const SUBSCRIPTIONS_MAX: usize = 1000;
/// Messages that wait to be written.
const QUEUE_LEN: usize = 64;

/// What can be read of a request that is wrong in something else, so that its answer finds its way.
#[derive(Deserialize)]
struct Envelope {
    r#type: Option<Value>,
    #[serde(default)]
    id: Value,
    /// W3C trace context of this request; without one that of the connection counts.
    traceparent: Option<Value>,
}

#[derive(Deserialize)]
struct Subscribe {
    workflow_id: String,
    #[serde(default)]
    after: Seq,
}

#[derive(Deserialize)]
struct Unsubscribe {
    workflow_id: String,
}

#[derive(Deserialize)]
struct SendEvent {
    event: EventBody,
}

#[derive(Deserialize)]
struct StartBody {
    workflow: String,
    input: Option<Box<RawValue>>,
    request_id: Option<String>,
    /// As `?wait=`: the answer comes when the instance has ended, with its document.
    wait: Option<String>,
}

pub(super) async fn run(
    mut socket: WebSocket,
    ingress: Shared,
    caller: Caller,
    connection: ConnectionPermit,
) {
    let caller = Arc::new(caller);
    let client_id = caller.client_id();
    debug!(correlation_id = caller.correlation_id, client_id, "a client of the gateway");
    let opened = Instant::now();
    let _open = ingress.metrics.socket();
    let (out, mut waiting) = mpsc::channel(QUEUE_LEN);
    let in_progress = Arc::new(Semaphore::new(CONCURRENT_REQUESTS));
    let mut gateway = Gateway {
        ingress: ingress.clone(),
        out,
        caller: caller.clone(),
        in_progress: in_progress.clone(),
        waits: Arc::new(Semaphore::new(WAITS_MAX)),
        requests: JoinSet::new(),
        followers: JoinSet::new(),
        subscriptions: HashMap::new(),
    };
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    let mut last_received = Instant::now();
    let (code, reason) = loop {
        let caller = gateway.caller.clone();
        tokio::select! {
            Some(message) = waiting.recv() => {
                let mut messages = vec![message];
                while let Ok(message) = waiting.try_recv() {
                    messages.push(message);
                }
                let count = messages.len();
                match send(&mut socket, messages.into_iter(), &ingress).await {
                    Ok(()) => ingress.metrics.sent(count),
                    Err(SendError::Closed) => return,
                    Err(SendError::TooSlow) => {
                        ingress.metrics.cut_off();
                        warn!(correlation_id = caller.correlation_id, "a client does not read and is cut off");
                        break (code::TRY_AGAIN, "too slow: come back and subscribe after the last row that you have".to_owned());
                    }
                }
            },
            message = next(&mut socket, &in_progress) => match message {
                Some(Ok(Message::Text(text))) => {
                    last_received = Instant::now();
                    gateway.take(text.as_str()).await;
                    connection.release();
                }
                Some(Ok(Message::Binary(_))) => break (code::NOT_TEXT, "messages are JSON texts".to_owned()),
                Some(Ok(Message::Close(_))) => return answer_close(socket).await,
                Some(Err(error)) => match close_reason(error, &connection, ingress.settings.max_body_bytes) {
                    Some(why) => break why,
                    None => return,
                },
                None => return,
                Some(Ok(_)) => {
                    connection.release();
                    last_received = Instant::now();
                }
            },
            Some(_) = gateway.requests.join_next() => {},
            Some(_) = gateway.followers.join_next() => {},
            _ = pings.tick() => {
                // A client that is not read is not silent.
                if in_progress.available_permits() == 0 {
                    last_received = Instant::now();
                }
                if last_received.elapsed() > PEER_TIMEOUT || socket.send(Message::Ping(Default::default())).await.is_err() {
                    return;
                }
            },
            (code, reason) = ending(&ingress, &caller, opened) => break (code, reason.to_owned()),
            () = ingress.service.stopping() => break (code::GOING_AWAY, "the server is shutting down".to_owned()),
        }
    };
    drop(gateway);
    close(socket, code, &reason).await;
}

/// Ends when the socket has to be closed, unless its caller proves something else before; why.
async fn ending(ingress: &Shared, caller: &Caller, opened: Instant) -> Ending {
    if caller.has_to_authenticate() {
        tokio::time::sleep_until(opened + AUTH_TIMEOUT).await;
        return NOT_AUTHENTICATED;
    }
    ingress.authenticator.lapsed(caller).await;
    EXPIRED
}

/// The next message, once a request can be worked on. May be dropped while it waits.
async fn next(
    socket: &mut WebSocket,
    in_progress: &Semaphore,
) -> Option<Result<Message, axum::Error>> {
    // Never closed. The request itself takes the permit: nothing else does meanwhile.
    let _permit = in_progress.acquire().await.ok()?;
    socket.recv().await
}

/// Of a request that is worked on, or of a start that waits.
type RequestPermit = Option<OwnedSemaphorePermit>;

struct Gateway {
    ingress: Shared,
    out: mpsc::Sender<Utf8Bytes>,
    /// Of the connection: who sent its last `auth`, or what opened it.
    caller: Arc<Caller>,
    in_progress: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    requests: JoinSet<()>,
    followers: JoinSet<()>,
    subscriptions: HashMap<InstanceId, AbortHandle>,
}

impl Gateway {
    /// The caller is from now on who the message proves, if it proves anything; the answer says who
    /// that is.
    async fn identify(&mut self, text: &str) -> Result<Value, Problem> {
        let authenticator = &self.ingress.authenticator;
        if let Some(permissions) = authenticator.of_message(text, self.caller.address).await? {
            self.caller = Arc::new(self.caller.turned_into(permissions));
        }
        self.ingress.service.identify(&self.caller).map(|identity| json!(identity))
    }

    /// One request. What takes time goes into its own task, whose answer comes by `out`.
    async fn take(&mut self, text: &str) {
        let Envelope { r#type, id, traceparent } = match parse::parse::<Envelope>(text.as_bytes()) {
            Ok(envelope) => envelope,
            Err(problem) => return self.refuse(Value::Null, problem),
        };
        let operation = match operation(r#type.as_ref()) {
            Ok(operation) => operation,
            Err(problem) => return self.refuse(id, problem),
        };
        let ingress = self.ingress.clone();
        let traceparent = traceparent.as_ref().and_then(Value::as_str).map(middleware::well_formed);
        let caller = match traceparent {
            None => self.caller.clone(),
            Some(traceparent) => Arc::new(self.caller.traced(traceparent)),
        };
        match operation {
            // Clients that begin with it work also where nobody asks, and get to know what they may
            // do.
            Operation::Identify => {
                let answer = self.identify(text).await;
                self.answer_in_task(id, async { answer });
            }
            Operation::Follow => {
                // Not in a task: an `unsubscribe` that follows must find it.
                if let Err(problem) = self.subscribe(&caller, &id, text).await {
                    self.refuse(id, problem);
                }
            }
            Operation::Unfollow => {
                let answer = self.unsubscribe(&caller, text);
                self.answer_in_task(id, async { answer });
            }
            Operation::SendEvents => {
                self.with(id, text, move |SendEvent { event }| send_event(ingress, caller, event));
            }
            Operation::Start => match parse::parse(text.as_bytes()) {
                Ok(body) => {
                    let (permit, waits) = (self.permit(), self.waits.clone());
                    self.spawn(id, start(ingress, caller, body, permit, waits));
                }
                Err(problem) => self.refuse(id, problem),
            },
            Operation::CompleteStep => {
                self.with(id, text, move |body| complete_step(ingress, caller, body));
            }
            // They have no word in the table: written out, so that one that gets a word is asked for
            // here.
            Operation::Restart
            | Operation::StepStarted
            | Operation::StepHeartbeat
            | Operation::Work
            | Operation::Status
            | Operation::List
            | Operation::History
            | Operation::Cancel
            | Operation::Retry
            | Operation::Undo
            | Operation::Fail
            | Operation::Pause
            | Operation::Resume
            | Operation::Workers
            | Operation::Metrics
            | Operation::Health
            | Operation::HealthDetail
            | Operation::Live
            | Operation::Ready
            | Operation::Connect => {
                let text = format!("the gateway does not serve {operation:?}");
                self.refuse(id, Problem::new(Kind::Internal, text));
            }
        }
    }

    fn refuse(&mut self, id: Value, problem: Problem) {
        self.answer_in_task(id, async { Err(problem) });
    }

    fn with<T, F>(&mut self, id: Value, text: &str, work: impl FnOnce(T) -> F)
    where
        T: serde::de::DeserializeOwned,
        F: Future<Output = Result<Value, Problem>> + Send + 'static,
    {
        match parse::parse::<T>(text.as_bytes()) {
            Ok(body) => {
                let work = work(body);
                self.answer_in_task(id, work);
            }
            Err(problem) => self.refuse(id, problem),
        }
    }

    fn answer_in_task(
        &mut self,
        id: Value,
        work: impl Future<Output = Result<Value, Problem>> + Send + 'static,
    ) {
        let permit = self.permit();
        self.spawn(id, async move { (work.await, permit) });
    }

    fn permit(&self) -> RequestPermit {
        self.in_progress.clone().try_acquire_owned().ok()
    }

    /// The permit is free again when the answer is on its way: a client that does not read cannot
    /// pile up answers either.
    fn spawn(
        &mut self,
        id: Value,
        work: impl Future<Output = (Result<Value, Problem>, RequestPermit)> + Send + 'static,
    ) {
        let (out, caller) = (self.out.clone(), self.caller.clone());
        self.requests.spawn(async move {
            let (answered, permit) = work.await;
            let answer = match answered {
                Ok(data) => answer(&id, &data),
                Err(problem) => {
                    json!({"type": "answer", "id": id, "ok": false, "error": problem.document(&caller.correlation_id)}).to_string().into()
                }
            };
            // The socket may be gone, and then the answer is not needed.
            let _ = out.send(answer).await;
            drop(permit);
        });
    }

    /// The answer is the first thing that the follower sends.
    async fn subscribe(&mut self, caller: &Caller, id: &Value, text: &str) -> Result<(), Problem> {
        let Subscribe { workflow_id, after } = parse::parse(text.as_bytes())?;
        let instance = requests::instance_id(&workflow_id)?;
        self.subscriptions.retain(|_, follower| !follower.is_finished());
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX
            && !self.subscriptions.contains_key(&instance)
        {
            let text = format!(
                "one socket follows {SUBSCRIPTIONS_MAX} instances at most: unsubscribe from others, or open another socket"
            );
            return Err(Problem::new(Kind::LimitExceeded, text));
        }
        let follow = self.ingress.service.follow(caller, instance, after).await?;
        let answer = answer(id, &json!({"workflow_id": instance.to_string(), "after": after}));
        let follower = self.followers.spawn(follower(
            self.ingress.clone(),
            instance,
            follow,
            answer,
            self.out.clone(),
        ));
        // Subscribed once more: from the row that is named now.
        if let Some(former) = self.subscriptions.insert(instance, follower) {
            former.abort();
        }
        Ok(())
    }

    fn unsubscribe(&mut self, caller: &Caller, text: &str) -> Result<Value, Problem> {
        self.ingress.service.unfollow(caller)?;
        let Unsubscribe { workflow_id } = parse::parse(text.as_bytes())?;
        let instance = requests::instance_id(&workflow_id)?;
        let was_subscribed =
            self.subscriptions.remove(&instance).inspect(AbortHandle::abort).is_some();
        Ok(json!({"workflow_id": instance.to_string(), "was_subscribed": was_subscribed}))
    }
}

fn answer(id: &Value, data: &Value) -> Utf8Bytes {
    json!({"type": "answer", "id": id, "ok": true, "data": data}).to_string().into()
}

/// Everything that one subscription gets, from the answer to its request to a word of its end.
async fn follower(
    ingress: Shared,
    instance: InstanceId,
    mut follow: Follow,
    answer: Utf8Bytes,
    out: mpsc::Sender<Utf8Bytes>,
) {
    if out.send(answer).await.is_err() {
        return;
    }
    let reason = loop {
        match follow.next().await {
            Ok(Some(row)) => {
                let Ok(encoded) = messages::of_row(instance, follow.shape(), &row) else {
                    break "failed";
                };
                for message in &encoded.messages {
                    if out.send(message.clone()).await.is_err() {
                        return;
                    }
                }
            }
            Ok(None) => break "ended",
            Err(problem) => {
                warn!(%instance, detail = problem.detail, "following has failed");
                break "failed";
            }
        }
        if ingress.service.is_stopping() {
            return;
        }
    };
    let last = json!({"type": "unsubscribed", "workflow_id": instance.to_string(), "seq": follow.seq(), "data": {"reason": reason}});
    // The socket may be gone, and then the word is not needed.
    let _ = out.send(last.to_string().into()).await;
}

async fn send_event(
    ingress: Shared,
    caller: Arc<Caller>,
    event: EventBody,
) -> Result<Value, Problem> {
    let taken = ingress.service.send_event(&caller, event.into_event()?).await;
    let taken = taken.map_err(|error| error.within("event.data"))?;
    Ok(json!({"id": taken.id, "duplicate": taken.duplicate}))
}

async fn complete_step(
    ingress: Shared,
    caller: Arc<Caller>,
    mut body: CompletionBody,
) -> Result<Value, Problem> {
    let caller = ingress.authenticator.of_report(&caller, body.take_token()).await?;
    let completion = body.into_completion()?;
    let workflow_id = completion.instance.to_string();
    let completed = ingress.service.complete(&caller, completion).await?;
    Ok(json!({"status": requests::word(completed), "workflow_id": workflow_id}))
}

/// A start that waits gives back the permit of its request as soon as the instance has begun.
async fn start(
    ingress: Shared,
    caller: Arc<Caller>,
    body: StartBody,
    permit: RequestPermit,
    waits: Arc<Semaphore>,
) -> (Result<Value, Problem>, RequestPermit) {
    let waits = match &body.wait {
        None => None,
        Some(_) => match waits.try_acquire_owned() {
            Ok(waits) => Some(waits),
            Err(_) => {
                let text = format!(
                    "{WAITS_MAX} starts of this socket wait for their instances: start without `wait`, or open another socket"
                );
                return (Err(Problem::new(Kind::LimitExceeded, text).at("wait")), permit);
            }
        },
    };
    let begun = match begin(&ingress, &caller, body).await {
        Ok(Some(begun)) => begun,
        Ok(None) => {
            let answer = json!({
                "workflow_id": "", "status": "ignored", "replayed": false, "message": IGNORED,
            });
            return (Ok(answer), permit);
        }
        Err(problem) => return (Err(problem), permit),
    };
    let permit = match waits {
        Some(waits) => {
            drop(permit);
            Some(waits)
        }
        None => permit,
    };
    (answer_start(&ingress, begun).await, permit)
}

/// `None`: the triggers' `when` does not hold for that input.
async fn begin(
    ingress: &Shared,
    caller: &Caller,
    body: StartBody,
) -> Result<Option<Begun>, Problem> {
    let StartBody { workflow, input, request_id, wait } = body;
    let input = match input {
        Some(input) => input,
        None => parse::raw(b"{}")?,
    };
    let request = StartRequest {
        what: StartInput::Workflow { name: &workflow, trigger: "websocket" },
        input: &input,
        input_field: "input",
        wait: wait.as_deref(),
    };
    let request_id =
        || request_id.map(|text| requests::request_id(&text, "request_id")).transpose();
    ingress.service.start(caller, request, request_id).await
}

async fn answer_start(ingress: &Shared, mut begun: Begun) -> Result<Value, Problem> {
    let ended = ingress.service.wait(&mut begun).await?;
    let Begun { started, warnings, .. } = &begun;
    let mut answer = json!({
        "workflow_id": started.instance.to_string(),
        "status": "processing",
        "replayed": started.replayed,
    });
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
    if let Some(token) = &begun.follow_token {
        answer["follow_token"] = Value::from(token.as_str());
    }
    if let Some(ended) = ended {
        answer["status"] = Value::from(ended.status().word());
        answer["document"] = serde_json::to_value(ended.document()).map_err(|error| {
            Problem::new(Kind::StoreFailed, format!("the document cannot be written: {error}"))
        })?;
    }
    Ok(answer)
}

/// The operation that a request's `type` asks for.
fn operation(r#type: Option<&Value>) -> Result<Operation, Problem> {
    let wrong = |text: &str| Problem::new(Kind::InvalidRequest, text).at("type");
    let word = match r#type {
        Some(Value::String(word)) => word.as_str(),
        Some(_) => return Err(wrong("`type` is a string")),
        None => return Err(wrong("missing field `type`")),
    };
    Operation::of_websocket(word).ok_or_else(|| {
        let shown: String = word.chars().take(80).collect();
        let hint = hint(word, Operation::websocket_words());
        wrong(&format!("there is no request `{shown}`{hint}"))
    })
}
