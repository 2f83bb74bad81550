//! Subscribed services: a message whose routing key matches one of a service's patterns is posted
//! to it, and is published when every subscriber has answered 2xx. This tries once; whether and
//! when to retry is the engine's business. A subscriber that has a message already does not get it
//! again because another one is down, unless this process dies in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bus::http::push::{Push, root};
use crate::bus::http::response::{Meaning, retry_after, usual_meaning};
use crate::bus::{Message, PublishOutcome};
use crate::machine;
use crate::supervise;

/// Messages that wait for their turn at a listener; beyond it they are given back to the engine.
const QUEUE: usize = 8192;
/// How long a listener may take for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an answer is read.
const MAX_ANSWER: usize = 64 << 10;

type Done = Box<dyn FnOnce(PublishOutcome) + Send>;

/// The subscribers of each routing key.
pub(crate) struct Listeners {
    by_key: HashMap<&'static str, Vec<Arc<Listener>>>,
    /// By the ids of messages that have reached some of their listeners and not all: those that
    /// they have reached.
    reached: Arc<Reached>,
    runtime: Handle,
}

#[derive(Default)]
struct Reached(Mutex<HashMap<String, Vec<Arc<Listener>>>>);

/// One service that listens.
pub(crate) struct Listener {
    push: Arc<Push>,
    room: Arc<Semaphore>,
    turns: Semaphore,
}

impl Listener {
    pub(crate) fn new(push: Arc<Push>, concurrency: usize) -> Arc<Self> {
        let turns = Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS));
        Arc::new(Self { push, room: Arc::new(Semaphore::new(QUEUE)), turns })
    }

    /// The error: why it has not taken the message.
    async fn deliver(&self, message: &Message, _place: OwnedSemaphorePermit) -> Result<(), String> {
        let closed = |_| "the server is shutting down".to_owned();
        let _turn = self.turns.acquire().await.map_err(closed)?;
        let pass = self.push.breaker.enter(machine::hash(&[message.id.as_bytes()])).await;
        let pass = pass.ok_or_else(|| "the server is shutting down".to_owned())?;
        // Of one that cannot be reached, or asks for time, the others are as good as turned away.
        let (problem, away) = match tokio::time::timeout(
            ANSWER_TIMEOUT,
            self.push.client.request(self.request(message)),
        )
        .await
        {
            Ok(Ok(response)) if response.status().is_success() => {
                pass.got_through();
                // Read to its end, so that the connection can be used again; its content does not
                // matter.
                let _ = tokio::time::timeout(
                    ANSWER_TIMEOUT,
                    Limited::new(response.into_body(), MAX_ANSWER).collect(),
                )
                .await;
                return Ok(());
            }
            Ok(Ok(response)) => {
                let status = response.status();
                let said = response
                    .headers()
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok());
                let said = said.and_then(|said| retry_after(said, Timestamp::now()));
                let away = (usual_meaning(status) == Some(Meaning::Later)).then_some(said);
                let help = if status.is_redirection() {
                    " (redirects are not followed: configure the final address)"
                } else {
                    ""
                };
                (format!("answered {status}{help}"), away)
            }
            Ok(Err(error)) if error.is_connect() => {
                (format!("cannot be reached: {}", root(&error)), Some(None))
            }
            Ok(Err(error)) => (format!("broke off the connection: {}", root(&error)), None),
            Err(_) => (format!("has not answered for {} s", ANSWER_TIMEOUT.as_secs()), None),
        };
        let problem = format!("service `{}` {problem}", self.push.name);
        match away {
            Some(said) => pass.turned_away(&problem, said),
            None => pass.failed_alone(&problem),
        };
        Err(problem)
    }

    fn request(&self, message: &Message) -> Request<Full<Bytes>> {
        let body = Bytes::copy_from_slice(message.body.get().as_bytes());
        self.push.post(
            body,
            &[
                ("idempotency-key", &message.id),
                ("x-routing-key", message.routing_key),
                ("x-correlation-id", &message.correlation_id),
                ("traceparent", &message.traceparent),
            ],
        )
    }
}

impl Listeners {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { by_key: HashMap::new(), reached: Arc::default(), runtime }
    }

    pub(crate) fn add(&mut self, routing_key: &'static str, listener: Arc<Listener>) {
        self.by_key.entry(routing_key).or_default().push(listener);
    }

    pub(crate) fn wants(&self, routing_key: &str) -> bool {
        self.by_key.contains_key(routing_key)
    }

    /// Why messages under that key wait.
    pub(crate) fn held(&self, routing_key: &str) -> Option<String> {
        let reasons: Vec<String> = self
            .by_key
            .get(routing_key)?
            .iter()
            .filter_map(|listener| listener.push.breaker.open_reason())
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Takes a message, or gives it back when one of its listeners has no room.
    pub(crate) fn publish(&self, message: Message, done: Done) -> Result<(), Message> {
        let Some(listeners) = self.by_key.get(message.routing_key) else {
            done(PublishOutcome::Confirmed);
            return Ok(());
        };
        let missing = self.reached.missing(&message.id, listeners);
        let places: Option<Vec<OwnedSemaphorePermit>> =
            missing.iter().map(|listener| listener.room.clone().try_acquire_owned().ok()).collect();
        let Some(places) = places else { return Err(message) };
        let reached = self.reached.clone();
        supervise::spawn_on(&self.runtime, "telling listeners", async move {
            let tries = missing
                .iter()
                .zip(places)
                .map(|(listener, place)| listener.deliver(&message, place));
            let results = join_all(tries).await;
            let problems: Vec<String> =
                results.iter().filter_map(|result| result.as_ref().err().cloned()).collect();
            if problems.is_empty() {
                reached.forget(&message.id);
                return done(PublishOutcome::Confirmed);
            }
            let have_it = missing
                .into_iter()
                .zip(&results)
                .filter(|(_, result)| result.is_ok())
                .map(|(listener, _)| listener);
            reached.note(message.id, have_it);
            done(PublishOutcome::Failed(problems.join("; ")));
        });
        Ok(())
    }
}

impl Reached {
    fn missing(&self, id: &str, listeners: &[Arc<Listener>]) -> Vec<Arc<Listener>> {
        let all = self.lock();
        let reached = all.get(id).map_or(&[][..], Vec::as_slice);
        listeners
            .iter()
            .filter(|listener| !reached.iter().any(|other| Arc::ptr_eq(listener, other)))
            .cloned()
            .collect()
    }

    fn note(&self, id: String, listeners: impl Iterator<Item = Arc<Listener>>) {
        let mut listeners = listeners.peekable();
        if listeners.peek().is_some() {
            self.lock().entry(id).or_default().extend(listeners);
        }
    }

    fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Listener>>>> {
        // A map of lists is never half-made.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
