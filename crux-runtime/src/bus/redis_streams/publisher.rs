//! The publisher: adds outgoing messages to streams. It keeps a window of unconfirmed messages,
//! sends again what was not confirmed when the connection is lost, waits while the server has no
//! memory, and reports the result of each message to its sender.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::{Options, Problem, RECONNECT_DELAY_MAX};
use crate::backoff::Backoff;
use crate::bus::broker::envelope::{Destination, Envelope, Outgoing};
use crate::bus::broker::status::{LinkStatus, State};
use crate::bus::redis_streams::entry::fields;
use crate::bus::redis_streams::scripts::{PUBLISH, SAY};
use crate::bus::redis_streams::topology::{WORKERS, key};
use crate::bus::routing_keys;
use crate::bus::session::{self, keep_connected, stopped};
use crate::redis_client::{Address, Call, Error, RedisClient, Script};

/// Messages that go out together.
const BATCH_LEN_MAX: usize = 64;
/// Unconfirmed bytes beyond which nothing more is taken.
const UNCONFIRMED_BYTES_MAX: usize = 64 << 20;
/// How many broadcast entries are kept.
const BROADCAST_LEN_MAX: usize = 1000;
/// While the server has no memory.
const OUT_OF_MEMORY_DELAY: Duration = Duration::from_millis(500);

/// See the module's text.
pub(super) struct Publisher {
    pub(super) options: Arc<Options>,
    pub(super) address: Address,
    pub(super) state: Arc<State>,
    pub(super) inbox: mpsc::Receiver<Outgoing>,
    pub(super) stopping: watch::Receiver<bool>,
    /// To be sent before anything else, in their order.
    pub(super) again: VecDeque<Envelope>,
}

type Answers = Vec<Result<Value, Error>>;

impl Publisher {
    /// Runs until stopped; `first` receives the result of the first connection attempt.
    pub(super) async fn run(self, first: oneshot::Sender<Result<(), Problem>>) {
        let stopping = self.stopping.clone();
        let publishing = PublisherSession { publisher: self, first: Some(first) };
        // Unpublished messages are published after the next start.
        keep_connected(publishing, Backoff::up_to(RECONNECT_DELAY_MAX), stopping).await;
    }

    /// Publishes by this client until it is lost, or until there is nothing left and the process
    /// stops.
    async fn session(&mut self, client: &RedisClient, backoff: &mut Backoff) -> Result<(), Error> {
        self.state.set_publishing(LinkStatus::Up);
        let mut session = Session {
            publisher: self,
            client,
            backoff,
            flying: FuturesUnordered::new(),
            held: BTreeMap::new(),
            next: 0,
            count: 0,
            bytes: 0,
            paused_until: None,
        };
        let result = session.run().await;
        // In the order in which they were sent.
        let held: Vec<Envelope> =
            std::mem::take(&mut session.held).into_values().flatten().collect();
        drop(session);
        self.state.unconfirmed.store(0, Ordering::Relaxed);
        let why = result.as_ref().err().map_or_else(String::new, ToString::to_string);
        for envelope in held.into_iter().rev() {
            if let Some(envelope) = repeatable(envelope, &why).await {
                self.again.push_front(envelope);
            }
        }
        result
    }
}

struct PublisherSession {
    publisher: Publisher,
    /// Until the first try to connect.
    first: Option<oneshot::Sender<Result<(), Problem>>>,
}

impl session::Session for PublisherSession {
    type Error = Error;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Error> {
        let opened = RedisClient::open(&self.publisher.address).await;
        if let Some(first) = self.first.take() {
            let tried = opened.as_ref().map(drop).map_err(|error| Problem::from(error.clone()));
            // The receiver may have timed out.
            let _ = first.send(tried);
        }
        self.publisher.session(&opened?, backoff).await
    }

    fn set_down(&mut self, reason: String) {
        self.publisher.state.set_publishing(LinkStatus::Down(reason));
    }
}

/// One client's life.
struct Session<'a> {
    publisher: &'a mut Publisher,
    client: &'a RedisClient,
    backoff: &'a mut Backoff,
    flying: FuturesUnordered<BoxFuture<'static, (u64, Answers)>>,
    /// What is in flight, by its number.
    held: BTreeMap<u64, Vec<Envelope>>,
    next: u64,
    count: usize,
    bytes: usize,
    /// The server has no memory: until then nothing is sent.
    paused_until: Option<Instant>,
}

impl Session<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        let mut stopping = self.publisher.stopping.clone();
        let mut outgoing = Vec::with_capacity(BATCH_LEN_MAX);
        loop {
            while self.room() > 0 && !self.publisher.again.is_empty() {
                let several = self.publisher.again.len().min(BATCH_LEN_MAX).min(self.room());
                let envelopes = self.publisher.again.drain(..several).collect();
                self.send(envelopes);
            }
            // A dropped sender means the same.
            let is_stopping = *stopping.borrow() || stopping.has_changed().is_err();
            if is_stopping
                && self.flying.is_empty()
                && self.publisher.again.is_empty()
                && self.publisher.inbox.is_empty()
            {
                return Ok(());
            }
            let room = self.room().min(BATCH_LEN_MAX);
            let paused_until = self.paused_until;
            tokio::select! {
                Some((n, answers)) = self.flying.next() => self.landed(n, answers).await?,
                _ = self.publisher.inbox.recv_many(&mut outgoing, room), if room > 0 => {
                    let mut envelopes = Vec::with_capacity(outgoing.len());
                    for outgoing in outgoing.drain(..) {
                        envelopes.extend(Envelope::new(outgoing).await);
                    }
                    self.send(envelopes);
                }
                () = sleep_until(paused_until.unwrap_or_else(Instant::now)), if paused_until.is_some() => self.paused_until = None,
                () = stopped(&mut stopping), if !is_stopping => {}
            }
        }
    }

    fn room(&self) -> usize {
        if self.paused_until.is_some() || self.bytes >= UNCONFIRMED_BYTES_MAX {
            return 0;
        }
        self.publisher.options.max_unconfirmed.saturating_sub(self.count)
    }

    fn send(&mut self, envelopes: Vec<Envelope>) {
        if envelopes.is_empty() {
            return;
        }
        let Options { prefix, max_length, .. } = &*self.publisher.options;
        let call = |envelope: &Envelope| {
            let (Destination::Service(routing_key) | Destination::Subscribers(routing_key)) =
                envelope.to;
            // A broadcast is for current readers: it needs no group.
            let (script, most): (&'static Script, usize) = if routing_keys::is_to_all(routing_key) {
                (&*SAY, BROADCAST_LEN_MAX)
            } else {
                (&*PUBLISH, *max_length)
            };
            let mut args = vec![most.to_string().into_bytes()];
            args.extend(fields(routing_key, envelope));
            Call { script, base: key(prefix, routing_key), args }
        };
        let calls = envelopes.iter().map(call).collect();
        let n = self.next;
        self.next += 1;
        self.count += envelopes.len();
        self.bytes += envelopes.iter().map(|envelope| envelope.body.len()).sum::<usize>();
        self.held.insert(n, envelopes);
        self.publisher.state.unconfirmed.store(self.count, Ordering::Relaxed);
        let client = self.client.clone();
        self.flying.push(Box::pin(async move { (n, client.call_all(calls).await) }));
    }

    /// The error: the client is lost; what it has not answered stays held.
    async fn landed(&mut self, n: u64, answers: Answers) -> Result<(), Error> {
        let Some(envelopes) = self.held.remove(&n) else { return Ok(()) };
        self.count -= envelopes.len();
        self.bytes -= envelopes.iter().map(|envelope| envelope.body.len()).sum::<usize>();
        self.publisher.state.unconfirmed.store(self.count, Ordering::Relaxed);
        let (mut lost, mut is_full, mut kept) = (None, None, Vec::new());
        let mut has_answered = false;
        for (envelope, answer) in envelopes.into_iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    has_answered = true;
                    reply(&self.publisher.options, &self.publisher.state, envelope, &answer).await;
                }
                Err(Error::Full(why)) => {
                    is_full = Some(why);
                    kept.push(envelope);
                }
                Err(Error::Broken(why) | Error::WrongType(why)) => {
                    envelope.reply_handle.failed(format!("undeliverable: {why}")).await
                }
                // Nothing was done, so that it may be sent again whatever it is.
                Err(error @ Error::Refused(_)) => {
                    kept.push(envelope);
                    lost = Some(error);
                }
                Err(error) => {
                    kept.extend(repeatable(envelope, &error.to_string()).await);
                    lost = Some(error);
                }
            }
        }
        for envelope in kept.into_iter().rev() {
            self.publisher.again.push_front(envelope);
        }
        if let Some(lost) = lost {
            return Err(lost);
        }
        match is_full {
            Some(why) => {
                self.paused_until = Some(Instant::now() + OUT_OF_MEMORY_DELAY);
                self.publisher.state.set_publishing(LinkStatus::Blocked(why));
            }
            None if has_answered => {
                self.backoff.reset();
                // Others in flight may still be refused for lack of memory.
                if self.paused_until.is_none() {
                    self.publisher.state.set_publishing(LinkStatus::Up);
                }
            }
            None => {}
        }
        Ok(())
    }
}

/// The envelope, if it may be sent again though it is not known whether the server has it; if not,
/// its sender gets an unknown outcome.
async fn repeatable(envelope: Envelope, why: &str) -> Option<Envelope> {
    if envelope.reply_handle.is_repeatable() {
        return Some(envelope);
    }
    envelope
        .reply_handle
        .lost(format!("Redis had not confirmed the task, which must not be sent twice: {why}"))
        .await;
    None
}

/// Reports the result of an envelope to its sender.
async fn reply(options: &Options, state: &State, envelope: Envelope, answer: &Value) {
    let Options { prefix, max_length, .. } = options;
    match (answer, envelope.to) {
        (
            Value::BulkString(word),
            Destination::Service(routing_key) | Destination::Subscribers(routing_key),
        ) if word == b"done" => {
            state
                .published
                .fetch_add(u64::from(!routing_keys::is_to_all(routing_key)), Ordering::Relaxed);
            envelope.reply_handle.arrived().await;
        }
        // Nobody listens.
        (Value::BulkString(word), Destination::Subscribers(_)) if word == b"nobody" => {
            envelope.reply_handle.arrived().await
        }
        (Value::BulkString(word), Destination::Service(routing_key)) if word == b"nobody" => {
            state.count_no_queue(routing_key);
            let stream = key(prefix, routing_key);
            let reason = format!(
                "no_queue: no service listens on {routing_key}: create a group, XGROUP CREATE {stream} {WORKERS} 0 MKSTREAM"
            );
            envelope.reply_handle.failed(reason).await;
        }
        (
            Value::BulkString(word),
            Destination::Service(routing_key) | Destination::Subscribers(routing_key),
        ) if word == b"full" => {
            state.refused.fetch_add(1, Ordering::Relaxed);
            let stream = key(prefix, routing_key);
            let reason = format!(
                "undeliverable: {max_length} messages wait in {stream} that its groups have not acknowledged"
            );
            envelope.reply_handle.failed(reason).await;
        }
        (other, _) => {
            envelope.reply_handle.failed(format!("undeliverable: Redis answers {other:?}")).await
        }
    }
}
