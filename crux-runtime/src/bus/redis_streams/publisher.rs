//! The publisher: adds to streams what leaves. It keeps a window of messages under way, sends again
//! what was not confirmed when the connection is lost, waits while the server has no memory, and
//! tells each sender what became of its message.

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

use super::{Options, PAUSE_MAX, Problem};
use crate::backoff::Backoff;
use crate::bus::broker::envelope::{Letter, Post, To};
use crate::bus::broker::status::{Link as Condition, State};
use crate::bus::redis_streams::entry::fields;
use crate::bus::redis_streams::scripts::{PUBLISH, SAY};
use crate::bus::redis_streams::topology::{WORKERS, key};
use crate::bus::routing_keys;
use crate::bus::session::{self, keep_connected, stopped};
use crate::redis_client::{Address, Call, Error, Link, Script};

/// Messages that go out together.
const BATCH: usize = 64;
/// Bytes under way beyond which nothing more is taken.
const MAX_BYTES: usize = 64 << 20;
/// Entries that are kept of what is said to everybody.
const MAX_SAID: usize = 1000;
/// While the server has no memory.
const REST: Duration = Duration::from_millis(500);

/// See the module's text.
pub(super) struct Publisher {
    pub(super) options: Arc<Options>,
    pub(super) address: Address,
    pub(super) state: Arc<State>,
    pub(super) inbox: mpsc::Receiver<Post>,
    pub(super) stopping: watch::Receiver<bool>,
    /// To be sent before anything else, in their order.
    pub(super) again: VecDeque<Letter>,
}

type Answers = Vec<Result<Value, Error>>;

impl Publisher {
    /// Runs until told to stop; `first` hears how the first try to connect went.
    pub(super) async fn run(self, first: oneshot::Sender<Result<(), Problem>>) {
        let stopping = self.stopping.clone();
        let publishing = Publishing { publisher: self, first: Some(first) };
        // What is not out when the process stops goes out after the next start.
        keep_connected(publishing, Backoff::up_to(PAUSE_MAX), stopping).await;
    }

    /// Publishes by this link until it is lost, or until there is nothing left and the process
    /// stops.
    async fn session(&mut self, link: &Link, backoff: &mut Backoff) -> Result<(), Error> {
        self.state.set_publishing(Condition::Up);
        let mut session = Session {
            publisher: self,
            link,
            backoff,
            flying: FuturesUnordered::new(),
            held: BTreeMap::new(),
            next: 0,
            count: 0,
            bytes: 0,
            rests_until: None,
        };
        let result = session.run().await;
        // In the order in which they were sent.
        let held: Vec<Letter> = std::mem::take(&mut session.held).into_values().flatten().collect();
        drop(session);
        self.state.unconfirmed.store(0, Ordering::Relaxed);
        let why = result.as_ref().err().map_or_else(String::new, ToString::to_string);
        for letter in held.into_iter().rev() {
            if let Some(letter) = repeatable(letter, &why).await {
                self.again.push_front(letter);
            }
        }
        result
    }
}

struct Publishing {
    publisher: Publisher,
    /// Until the first try to connect.
    first: Option<oneshot::Sender<Result<(), Problem>>>,
}

impl session::Session for Publishing {
    type Error = Error;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Error> {
        let opened = Link::open(&self.publisher.address).await;
        if let Some(first) = self.first.take() {
            let tried = opened.as_ref().map(drop).map_err(|error| Problem::from(error.clone()));
            // The receiver may have waited long enough and be gone.
            let _ = first.send(tried);
        }
        self.publisher.session(&opened?, backoff).await
    }

    fn set_down(&mut self, reason: String) {
        self.publisher.state.set_publishing(Condition::Down(reason));
    }
}

/// One link's life.
struct Session<'a> {
    publisher: &'a mut Publisher,
    link: &'a Link,
    backoff: &'a mut Backoff,
    flying: FuturesUnordered<BoxFuture<'static, (u64, Answers)>>,
    /// What is under way, by the number of its flight.
    held: BTreeMap<u64, Vec<Letter>>,
    next: u64,
    count: usize,
    bytes: usize,
    /// The server has no memory: until then nothing is sent.
    rests_until: Option<Instant>,
}

impl Session<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        let mut stopping = self.publisher.stopping.clone();
        let mut posts = Vec::with_capacity(BATCH);
        loop {
            while self.room() > 0 && !self.publisher.again.is_empty() {
                let several = self.publisher.again.len().min(BATCH).min(self.room());
                let letters = self.publisher.again.drain(..several).collect();
                self.send(letters);
            }
            // Also if whoever could say it is gone.
            let is_stopping = *stopping.borrow() || stopping.has_changed().is_err();
            if is_stopping
                && self.flying.is_empty()
                && self.publisher.again.is_empty()
                && self.publisher.inbox.is_empty()
            {
                return Ok(());
            }
            let room = self.room().min(BATCH);
            let rests_until = self.rests_until;
            tokio::select! {
                Some((n, answers)) = self.flying.next() => self.landed(n, answers).await?,
                _ = self.publisher.inbox.recv_many(&mut posts, room), if room > 0 => {
                    let mut letters = Vec::with_capacity(posts.len());
                    for post in posts.drain(..) {
                        letters.extend(Letter::new(post).await);
                    }
                    self.send(letters);
                }
                () = sleep_until(rests_until.unwrap_or_else(Instant::now)), if rests_until.is_some() => self.rests_until = None,
                () = stopped(&mut stopping), if !is_stopping => {}
            }
        }
    }

    fn room(&self) -> usize {
        if self.rests_until.is_some() || self.bytes >= MAX_BYTES {
            return 0;
        }
        self.publisher.options.max_unconfirmed.saturating_sub(self.count)
    }

    fn send(&mut self, letters: Vec<Letter>) {
        if letters.is_empty() {
            return;
        }
        let Options { prefix, max_length, .. } = &*self.publisher.options;
        let call = |letter: &Letter| {
            let (To::Service(routing_key) | To::Anybody(routing_key)) = letter.to;
            // What is said to everybody is for those who read now: it needs no group.
            let (script, most): (&'static Script, usize) = if routing_keys::is_to_all(routing_key) {
                (&*SAY, MAX_SAID)
            } else {
                (&*PUBLISH, *max_length)
            };
            let mut args = vec![most.to_string().into_bytes()];
            args.extend(fields(routing_key, letter));
            Call { script, base: key(prefix, routing_key), args }
        };
        let calls = letters.iter().map(call).collect();
        let n = self.next;
        self.next += 1;
        self.count += letters.len();
        self.bytes += letters.iter().map(|letter| letter.body.len()).sum::<usize>();
        self.held.insert(n, letters);
        self.publisher.state.unconfirmed.store(self.count, Ordering::Relaxed);
        let link = self.link.clone();
        self.flying.push(Box::pin(async move { (n, link.call_all(calls).await) }));
    }

    /// The error: the link is lost; what it has not answered stays held.
    async fn landed(&mut self, n: u64, answers: Answers) -> Result<(), Error> {
        let Some(letters) = self.held.remove(&n) else { return Ok(()) };
        self.count -= letters.len();
        self.bytes -= letters.iter().map(|letter| letter.body.len()).sum::<usize>();
        self.publisher.state.unconfirmed.store(self.count, Ordering::Relaxed);
        let (mut lost, mut is_full, mut kept) = (None, None, Vec::new());
        let mut has_answered = false;
        for (letter, answer) in letters.into_iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    has_answered = true;
                    tell(&self.publisher.options, &self.publisher.state, letter, &answer).await;
                }
                Err(Error::Full(why)) => {
                    is_full = Some(why);
                    kept.push(letter);
                }
                Err(Error::Broken(why) | Error::WrongType(why)) => {
                    letter.sender.failed(format!("undeliverable: {why}")).await
                }
                // Nothing was done, so that it may be sent again whatever it is.
                Err(error @ Error::Refused(_)) => {
                    kept.push(letter);
                    lost = Some(error);
                }
                Err(error) => {
                    kept.extend(repeatable(letter, &error.to_string()).await);
                    lost = Some(error);
                }
            }
        }
        for letter in kept.into_iter().rev() {
            self.publisher.again.push_front(letter);
        }
        if let Some(lost) = lost {
            return Err(lost);
        }
        match is_full {
            Some(why) => {
                self.rests_until = Some(Instant::now() + REST);
                self.publisher.state.set_publishing(Condition::Blocked(why));
            }
            None if has_answered => {
                self.backoff.reset();
                // Others that are under way may still be told that there is no memory.
                if self.rests_until.is_none() {
                    self.publisher.state.set_publishing(Condition::Up);
                }
            }
            None => {}
        }
        Ok(())
    }
}

/// The letter, if it may be sent again though it is not known whether the server has it; if not,
/// its sender is told.
async fn repeatable(letter: Letter, why: &str) -> Option<Letter> {
    if letter.sender.is_repeatable() {
        return Some(letter);
    }
    letter
        .sender
        .lost(format!("Redis had not confirmed the task, which must not be sent twice: {why}"))
        .await;
    None
}

/// Tells its sender what became of a letter.
async fn tell(options: &Options, state: &State, letter: Letter, answer: &Value) {
    let Options { prefix, max_length, .. } = options;
    match (answer, letter.to) {
        (Value::BulkString(word), To::Service(routing_key) | To::Anybody(routing_key))
            if word == b"done" =>
        {
            state
                .published
                .fetch_add(u64::from(!routing_keys::is_to_all(routing_key)), Ordering::Relaxed);
            letter.sender.arrived().await;
        }
        // Nobody listens.
        (Value::BulkString(word), To::Anybody(_)) if word == b"nobody" => {
            letter.sender.arrived().await
        }
        (Value::BulkString(word), To::Service(routing_key)) if word == b"nobody" => {
            state.count_no_queue(routing_key);
            let stream = key(prefix, routing_key);
            let reason = format!(
                "no_queue: no service listens on {routing_key}: create a group, XGROUP CREATE {stream} {WORKERS} 0 MKSTREAM"
            );
            letter.sender.failed(reason).await;
        }
        (Value::BulkString(word), To::Service(routing_key) | To::Anybody(routing_key))
            if word == b"full" =>
        {
            state.refused.fetch_add(1, Ordering::Relaxed);
            let stream = key(prefix, routing_key);
            let reason = format!(
                "undeliverable: {max_length} messages wait in {stream} that its groups have not acknowledged"
            );
            letter.sender.failed(reason).await;
        }
        (other, _) => letter.sender.failed(format!("undeliverable: Redis answers {other:?}")).await,
    }
}
