//! The gateway: one socket over which a client starts instances, sends events, completes steps and
//! follows as many instances as it likes. Each request may carry an `id`, which its answer repeats.
//! Requests of one socket are worked on side by side, within a limit; beyond it the socket is not
//! read. Starts that only wait for the end of their instances do not count for that; they have a
//! limit of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, interval_at};
use tracing::{debug, warn};

use super::{Gone, PING_EVERY, SILENT, answer_close, close, code, send, why_unreadable};
use crate::engine::api::{self, Start, Started};
use crate::id::InstanceId;
use crate::ingress::caller::Identity;
use crate::ingress::follow::{Follow, undelivered, until_ended};
use crate::ingress::http::stream::ConnectionPermit;
use crate::ingress::http::{IGNORED, middleware};
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::requests::{self, CompletionBody, EventBody, KnownFields};
use crate::ingress::{Shared, json as parse};
use crate::live::Follower;
use crate::machine::{Arrived, Refusal};
use crate::store::Seq;
use crate::suggest::hint;
use crate::view::messages;

/// Requests that are worked on.
const AT_ONCE: usize = 64;
/// Starts whose answer waits for the end of the instance.
const MAX_WAITS: usize = 1000;
/// Instances that one socket follows.
const MAX_SUBSCRIPTIONS: usize = 1000;
/// Messages that wait to be written.
const QUEUE: usize = 64;

const TYPES: [&str; 6] = ["auth", "subscribe", "unsubscribe", "event", "start", "complete_step"];

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
    correlation_id: String,
    traceparent: String,
    permit: ConnectionPermit,
) {
    debug!(correlation_id, "a client of the gateway");
    let _open = ingress.metrics.socket();
    let (out, mut waiting) = mpsc::channel(QUEUE);
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut gateway = Gateway {
        ingress: ingress.clone(),
        out,
        correlation_id,
        traceparent,
        at_once: at_once.clone(),
        waits: Arc::new(Semaphore::new(MAX_WAITS)),
        requests: JoinSet::new(),
        followers: JoinSet::new(),
        subscriptions: HashMap::new(),
    };
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    let mut heard = Instant::now();
    let (code, reason) = loop {
        tokio::select! {
            Some(message) = waiting.recv() => {
                let mut messages = vec![message];
                while let Ok(message) = waiting.try_recv() {
                    messages.push(message);
                }
                let count = messages.len();
                match send(&mut socket, messages.into_iter(), &ingress).await {
                    Ok(()) => ingress.metrics.sent(count),
                    Err(Gone::Closed) => return,
                    Err(Gone::TooSlow) => {
                        ingress.metrics.told_to_resync();
                        warn!(correlation_id = gateway.correlation_id, "a client does not read and is cut off");
                        break (code::TRY_AGAIN, "too slow: come back and subscribe after the last row that you have".to_owned());
                    }
                }
            },
            message = next(&mut socket, &at_once) => match message {
                Some(Ok(Message::Text(text))) => {
                    heard = Instant::now();
                    gateway.take(text.as_str()).await;
                    permit.is_done();
                }
                Some(Ok(Message::Binary(_))) => break (code::NOT_TEXT, "messages are JSON texts".to_owned()),
                Some(Ok(Message::Close(_))) => return answer_close(socket).await,
                Some(Err(error)) => match why_unreadable(error, &permit, ingress.settings.max_body_bytes) {
                    Some(why) => break why,
                    None => return,
                },
                None => return,
                Some(Ok(_)) => {
                    permit.is_done();
                    heard = Instant::now();
                }
            },
            Some(_) = gateway.requests.join_next() => {},
            Some(_) = gateway.followers.join_next() => {},
            _ = pings.tick() => {
                // Whoever is not listened to is not silent.
                if at_once.available_permits() == 0 {
                    heard = Instant::now();
                }
                if heard.elapsed() > SILENT || socket.send(Message::Ping(Default::default())).await.is_err() {
                    return;
                }
            },
            () = ingress.stopping() => break (code::GOING_AWAY, "the server is shutting down".to_owned()),
        }
    };
    drop(gateway);
    close(socket, code, &reason).await;
}

/// What the client says next, when there is room for it. May be dropped while it waits.
async fn next(socket: &mut WebSocket, at_once: &Semaphore) -> Option<Result<Message, axum::Error>> {
    // Never closed. The request itself takes the permit: nobody else does meanwhile.
    let _room = at_once.acquire().await.ok()?;
    socket.recv().await
}

/// Of a request that is worked on, or of a start that waits.
type Room = Option<OwnedSemaphorePermit>;

struct Gateway {
    ingress: Shared,
    out: mpsc::Sender<Utf8Bytes>,
    correlation_id: String,
    traceparent: String,
    at_once: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    requests: JoinSet<()>,
    followers: JoinSet<()>,
    subscriptions: HashMap<InstanceId, AbortHandle>,
}

impl Gateway {
    /// One request. Whatever takes time goes into a task of its own, whose answer comes by `out`.
    async fn take(&mut self, text: &str) {
        let Envelope { r#type, id, traceparent } = match parse::parse::<Envelope>(text.as_bytes()) {
            Ok(envelope) => envelope,
            Err(problem) => return self.refuse(Value::Null, problem),
        };
        let kind = match &r#type {
            Some(Value::String(kind)) => kind.as_str(),
            Some(_) => {
                return self
                    .refuse(id, Problem::new(Kind::InvalidRequest, "`type` is a text").at("type"));
            }
            None => {
                return self.refuse(
                    id,
                    Problem::new(Kind::InvalidRequest, "missing field `type`").at("type"),
                );
            }
        };
        let ingress = self.ingress.clone();
        let said = traceparent.as_ref().and_then(Value::as_str).map(middleware::well_formed);
        let traceparent = said.unwrap_or_else(|| self.traceparent.clone());
        match kind {
            // With whatever it proves: clients that begin with it work, and hear what they may do.
            "auth" => self.answer_in_task(id, async { Ok(json!(Identity::local())) }),
            "subscribe" => {
                // Not in a task: an `unsubscribe` that follows must find it.
                if let Err(problem) = self.subscribe(&id, text).await {
                    self.refuse(id, problem);
                }
            }
            "unsubscribe" => {
                let answer = self.unsubscribe(text);
                self.answer_in_task(id, async { answer });
            }
            "event" => self.with(id, text, move |SendEvent { event }| {
                event_taken(ingress, event, traceparent)
            }),
            "start" => match parse::parse(text.as_bytes()) {
                Ok(body) => {
                    let (room, waits) = (self.room(), self.waits.clone());
                    self.spawn(id, started(ingress, body, traceparent, room, waits));
                }
                Err(problem) => self.refuse(id, problem),
            },
            "complete_step" => self.with(id, text, move |body| completed(ingress, body)),
            other => {
                let shown: String = other.chars().take(80).collect();
                let text =
                    format!("there is no request `{shown}`{}", hint(other, TYPES.into_iter()));
                self.refuse(id, Problem::new(Kind::InvalidRequest, text).at("type"));
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
        let room = self.room();
        self.spawn(id, async move { (work.await, room) });
    }

    fn room(&self) -> Room {
        self.at_once.clone().try_acquire_owned().ok()
    }

    /// The room is free again when the answer is on its way: a client that does not read cannot
    /// pile up answers either.
    fn spawn(
        &mut self,
        id: Value,
        work: impl Future<Output = (Result<Value, Problem>, Room)> + Send + 'static,
    ) {
        let (out, correlation_id) = (self.out.clone(), self.correlation_id.clone());
        self.requests.spawn(async move {
            let (answered, room) = work.await;
            let answer = match answered {
                Ok(data) => answer(&id, &data),
                Err(problem) => {
                    json!({"type": "answer", "id": id, "ok": false, "error": problem.document(&correlation_id)}).to_string().into()
                }
            };
            // The socket is gone: nobody waits for the answer.
            let _ = out.send(answer).await;
            drop(room);
        });
    }

    /// The answer is the first thing that the follower sends.
    async fn subscribe(&mut self, id: &Value, text: &str) -> Result<(), Problem> {
        let Subscribe { workflow_id, after } = parse::parse(text.as_bytes())?;
        let instance = requests::instance_id(&workflow_id)?;
        self.subscriptions.retain(|_, follower| !follower.is_finished());
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS
            && !self.subscriptions.contains_key(&instance)
        {
            let text = format!(
                "one socket follows {MAX_SUBSCRIPTIONS} instances at most: unsubscribe from others, or open another socket"
            );
            return Err(Problem::new(Kind::LimitExceeded, text));
        }
        let follow = Follow::open(&self.ingress, instance, after).await?;
        let answer = answer(id, &json!({"workflow_id": instance.to_string(), "after": after}));
        let follower = self.followers.spawn(follower(
            self.ingress.clone(),
            instance,
            follow,
            answer,
            self.out.clone(),
        ));
        // Subscribed once more: from the row that is said now.
        if let Some(former) = self.subscriptions.insert(instance, follower) {
            former.abort();
        }
        Ok(())
    }

    fn unsubscribe(&mut self, text: &str) -> Result<Value, Problem> {
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
        if ingress.is_stopping() {
            return;
        }
    };
    let last = json!({"type": "unsubscribed", "workflow_id": instance.to_string(), "seq": follow.seq(), "data": {"reason": reason}});
    // The socket is gone: nobody needs the word.
    let _ = out.send(last.to_string().into()).await;
}

async fn event_taken(
    ingress: Shared,
    event: EventBody,
    traceparent: String,
) -> Result<Value, Problem> {
    let event = event.into_event(&traceparent)?;
    let taken = ingress.engine.take_events(vec![event]).await.pop();
    let taken =
        taken.ok_or_else(|| Problem::new(Kind::Internal, "the engine did not answer"))??;
    Ok(json!({"id": taken.id, "duplicate": taken.duplicate}))
}

async fn completed(ingress: Shared, body: CompletionBody) -> Result<Value, Problem> {
    let completion = body.into_completion()?;
    let workflow_id = completion.instance.to_string();
    let completed = ingress.engine.complete(completion).await?;
    Ok(json!({"status": requests::word(completed), "workflow_id": workflow_id}))
}

/// Of a start: what is invalid is its input.
fn refused(error: api::Error) -> Problem {
    match error {
        api::Error::Invalid(text) => Problem::invalid(&text, "input"),
        error => error.into(),
    }
}

/// A start that waits leaves the room of the requests to others as soon as the instance has begun.
async fn started(
    ingress: Shared,
    body: StartBody,
    traceparent: String,
    room: Room,
    waits: Arc<Semaphore>,
) -> (Result<Value, Problem>, Room) {
    let Wanted { start, wait, warnings } = match start_of(&ingress, body, traceparent) {
        Ok(Some(wanted)) => wanted,
        Ok(None) => {
            return (
                Ok(
                    json!({"workflow_id": "", "status": "ignored", "replayed": false, "message": IGNORED}),
                ),
                room,
            );
        }
        Err(problem) => return (Err(problem), room),
    };
    let Some(limit) = wait else {
        let started = ingress.engine.start(start).await.map_err(refused);
        return (started.map(|started| begun(&started, &warnings)), room);
    };
    let Ok(waits) = waits.try_acquire_owned() else {
        let text = format!(
            "{MAX_WAITS} starts of this socket wait for their instances: start without `wait`, or open another socket"
        );
        return (Err(Problem::new(Kind::LimitExceeded, text).at("wait")), room);
    };
    let (started, live) = match ingress.engine.start_and_follow(start).await {
        Ok(begun) => begun,
        Err(error) => return (Err(refused(error)), room),
    };
    drop(room);
    (waited(&ingress, &started, &warnings, live, limit).await, Some(waits))
}

/// A start that the workflow's triggers take.
struct Wanted {
    start: Start,
    wait: Option<Duration>,
    /// What the client should know of its input.
    warnings: Vec<String>,
}

/// `None`: the triggers' `when` does not hold for that input.
fn start_of(
    ingress: &Shared,
    body: StartBody,
    traceparent: String,
) -> Result<Option<Wanted>, Problem> {
    let wait = body
        .wait
        .as_deref()
        .map(|text| requests::wait(text, ingress.settings.max_wait))
        .transpose()?;
    let input = match body.input {
        Some(input) => input,
        None => parse::raw(b"{}")?,
    };
    // A start is the same one however it comes: the triggers' `when` and `key` count here too.
    let mut warnings = Vec::new();
    let arrived = match ingress.engine.app().current(&body.workflow) {
        None => Arrived { input, key: None },
        Some(workflow) => match workflow.definition.arrived(&input) {
            Ok(arrived) => {
                let fields = KnownFields::of(workflow.definition);
                warnings =
                    fields.check(&arrived.input, &[]).map_err(|problem| problem.within("input"))?;
                arrived
            }
            Err(Refusal::Invalid(text)) => return Err(Problem::invalid(&text, "input")),
            Err(Refusal::NotWanted) => return Ok(None),
        },
    };
    let request_id = requests::start_id(&arrived, || {
        body.request_id.map(|text| requests::request_id(&text, "request_id")).transpose()
    })?;
    let start = Start {
        workflow: body.workflow,
        input: arrived.input,
        request_id,
        owner: String::new(),
        trigger: "websocket".to_owned(),
        traceparent,
    };
    Ok(Some(Wanted { start, wait, warnings }))
}

fn begun(started: &Started, warnings: &[String]) -> Value {
    let mut answer = json!({"workflow_id": started.instance.to_string(), "status": "processing", "replayed": started.replayed});
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
    answer
}

async fn waited(
    ingress: &Shared,
    started: &Started,
    warnings: &[String],
    live: Follower,
    limit: Duration,
) -> Result<Value, Problem> {
    let mut answer = begun(started, warnings);
    let (shape, fold) = until_ended(ingress, started, live, limit).await?;
    if fold.has_ended() {
        answer["status"] = Value::from(fold.status().word());
        let undelivered = undelivered(ingress, started.instance, &shape, &fold).await;
        let document =
            crate::view::document::document(started.instance, &shape, &fold, &undelivered);
        answer["document"] = serde_json::to_value(document).map_err(|error| {
            Problem::new(Kind::StoreFailed, format!("the document cannot be written: {error}"))
        })?;
    }
    Ok(answer)
}
