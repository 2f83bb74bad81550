//! The client of a Redis server, or of the masters of a cluster. Each command goes to the node that
//! owns its key; slots that move and masters that fail over are followed
//! ([`super::slots`]), and a lost connection is made again
//! ([`server`](crate::redis_client::server)).
//!
//! Not the client library's cluster connection: it stops for good when it gets a redirection while
//! it looks up the slots, it repeats commands whose outcome is unknown, and it sends scripts to a
//! node that has only some of their keys.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use redis::{Arg, Cmd, ConnectionInfo, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::slots;
use super::{Error, Script};
use crate::redis_client::server::{Exchange, Server};
use crate::redis_client::slots::Slots;

/// How long a command may be sent again that was refused because its slot is about to be somewhere
/// else.
const REDIRECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Before it is sent again, the first time; it doubles.
const REDIRECT_DELAY_MIN: Duration = Duration::from_millis(5);
const REDIRECT_DELAY_MAX: Duration = Duration::from_millis(100);
/// How often the slots of a healthy cluster are refreshed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// And if something is.
const REFRESH_RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long the answer may take.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// A call of a script.
pub(crate) struct Call {
    pub script: &'static Script,
    pub base: String,
    pub args: Vec<Vec<u8>>,
}

impl Call {
    fn command(&self, name: &str, script: &str) -> Order {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(&self.base).arg(&self.args);
        Order { command, key: self.base.clone().into_bytes(), is_whole: self.script.is_of_tag }
    }
}

/// How to reach the server.
#[derive(Clone)]
pub(crate) struct Address {
    /// The server, or some of the cluster's.
    pub nodes: Vec<ConnectionInfo>,
    /// How long an answer may take. After that the outcome is unknown.
    pub timeout: Duration,
}

/// Sends commands and returns their answers; cheap to clone. Example: during a failover a command
/// for `{7}:instance` is refused with `MOVED`; the client asks the cluster for its slots again and
/// sends the command to the new master. A command whose answer is lost is not repeated: only its
/// caller knows whether that is safe.
#[derive(Clone)]
pub(crate) struct RedisClient {
    shared: Arc<Shared>,
    is_closed: Arc<AtomicBool>,
}

struct Shared {
    slots: RwLock<Slots>,
    /// Something is not where it was.
    unsure: Notify,
}

/// A command, and where it goes.
struct Order {
    command: Cmd,
    key: Vec<u8>,
    /// It needs keys of the slot that it does not name: only a server that has all of the slot can
    /// do it.
    is_whole: bool,
}

impl From<Cmd> for Order {
    fn from(command: Cmd) -> Self {
        Self { key: key_of(&command).unwrap_or_default(), command, is_whole: false }
    }
}

/// What a response means for the caller.
enum Next {
    Answered,
    /// The slot is that server's.
    Moved,
    /// That server has the key, if anybody has; the rest of the slot is still here.
    Ask(String),
    /// In a moment.
    Again,
}

impl RedisClient {
    /// Connects; finds out by itself whether a cluster is there.
    pub async fn open(address: &Address) -> Result<Self, Error> {
        let mut info = redis::cmd("INFO");
        info.arg("cluster");
        let mut last = Error::Broken("no address of Redis is known: set `redis.url`".to_owned());
        for node in &address.nodes {
            let slots = Slots::one(node.clone(), address.timeout);
            let Some(server) = slots.masters().first().cloned() else { continue };
            let said = match server.exchange(&[&info], false).await {
                Exchange::Answered(mut answers) => match answers.pop() {
                    Some(answer) => text(answer).map_err(|error| Error::of(&error))?,
                    None => continue,
                },
                Exchange::NotSent(error) | Exchange::Unknown(error) => {
                    let text = format!("Redis at {} cannot be reached: {error}", server.place);
                    last = if matches!(Error::of(&error), Error::Broken(_)) {
                        Error::Broken(text)
                    } else {
                        Error::Unavailable(text)
                    };
                    continue;
                }
            };
            if !said.contains("cluster_enabled:1") {
                return Ok(Self::over(slots));
            }
            let client = Self::over(Slots::many(&address.nodes, node.clone(), address.timeout));
            if !client.shared.refresh().await {
                return Err(Error::Unavailable(format!(
                    "Redis at {}: the cluster has no slots, or is down",
                    server.place
                )));
            }
            let shared = Arc::downgrade(&client.shared);
            let followed = shared.clone();
            crate::supervise::keep_running(
                "following the Redis cluster",
                move || followed.strong_count() == 0,
                keep_fresh(shared),
            );
            return Ok(client);
        }
        Err(last)
    }

    /// Separate connections to the same server; closed with this one.
    pub async fn another(&self, address: &Address) -> Result<Self, Error> {
        Ok(Self { is_closed: self.is_closed.clone(), ..Self::open(address).await? })
    }

    fn over(slots: Slots) -> Self {
        Self {
            shared: Arc::new(Shared { slots: RwLock::new(slots), unsure: Notify::new() }),
            is_closed: Arc::default(),
        }
    }

    pub fn is_cluster(&self) -> bool {
        self.shared.read(Slots::is_cluster)
    }

    /// From now on nothing is asked any more. Whether it was open.
    pub fn close(&self) -> bool {
        !self.is_closed.swap(true, Ordering::SeqCst)
    }

    pub async fn ask(&self, command: Cmd) -> Result<Value, Error> {
        self.check_open()?;
        self.send(command.into()).await.map_err(|error| Error::of(&error))
    }

    /// Commands of any tags, pipelined; an error of one is the error of all.
    pub async fn ask_all(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, Error> {
        self.ask_each(commands).await?.into_iter().collect()
    }

    /// Pipelined, each with its own result.
    pub async fn ask_each(&self, commands: Vec<Cmd>) -> Result<Vec<Result<Value, Error>>, Error> {
        self.check_open()?;
        let orders = commands.into_iter().map(Order::from).collect();
        Ok(self
            .send_all(orders)
            .await
            .into_iter()
            .map(|result| result.map_err(|error| Error::of(&error)))
            .collect())
    }

    pub async fn call(&self, call: Call) -> Result<Value, Error> {
        self.call_all(vec![call]).await.pop().unwrap_or_else(|| Err(Error::closed()))
    }

    /// Scripts, pipelined, each with its own result.
    pub async fn call_all(&self, calls: Vec<Call>) -> Vec<Result<Value, Error>> {
        if let Err(error) = self.check_open() {
            return calls.iter().map(|_| Err(error.clone())).collect();
        }
        self.run_all(&calls)
            .await
            .into_iter()
            .map(|result| result.map_err(|error| Error::of(&error)))
            .collect()
    }

    /// As [`Self::call`], also when the store is closed.
    pub async fn call_last(&self, call: Call) -> Result<(), Error> {
        let results = self.run_all(&[call]).await;
        results
            .into_iter()
            .try_for_each(|result| result.map(drop).map_err(|error| Error::of(&error)))
    }

    /// By which connection that key is reached now. `WAIT` counts what was written by its own one,
    /// and is worth nothing by another.
    pub async fn connection(&self, key: &str) -> Option<u64> {
        let server = self.shared.read(|slots| slots.master_of(key.as_bytes()).cloned())?;
        server.connection().await
    }

    /// How many replicas have got everything that was written so far for that tag, after `timeout`
    /// at the latest.
    pub async fn replicas(&self, base: &str, wanted: u32, timeout: Duration) -> Result<u32, Error> {
        let mut wait = redis::cmd("WAIT");
        wait.arg(wanted).arg(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let order = Order { command: wait, key: base.as_bytes().to_vec(), is_whole: false };
        let reached = self.send(order).await.and_then(|value| Ok(redis::from_redis_value(value)?));
        // Also if the server is a replica itself by now, which it says as if the question were
        // wrong.
        reached.map_err(|error| Error::Unavailable(format!("Redis: {error}")))
    }

    /// How many subscribers received it.
    pub async fn tell(&self, channel: &str, message: &[u8]) -> Result<u64, Error> {
        self.check_open()?;
        let mut publish = redis::cmd("SPUBLISH");
        publish.arg(channel).arg(message);
        let receivers = self.send(publish.into()).await;
        receivers
            .and_then(|value| Ok(redis::from_redis_value(value)?))
            .map_err(|error| Error::of(&error))
    }

    /// The same question to the server, or to each master, by its address.
    pub async fn ask_masters(&self, command: Cmd) -> RedisResult<Vec<(String, Value)>> {
        let (masters, is_cluster) =
            self.shared.read(|slots| (slots.masters().to_vec(), slots.is_cluster()));
        let asked = masters.iter().map(|master| async {
            let answer = match master.exchange(&[&command], false).await {
                Exchange::Answered(mut answers) => answers.pop().unwrap_or(Ok(Value::Nil)),
                Exchange::NotSent(error) | Exchange::Unknown(error) => Err(error),
            };
            Ok((if is_cluster { master.place.clone() } else { String::new() }, answer?))
        });
        join_all(asked).await.into_iter().collect()
    }

    /// Where channels and keys of that name are; `None`: nobody has them at the moment.
    pub fn place_of(&self, key: &str) -> Option<String> {
        self.shared.read(|slots| slots.master_of(key.as_bytes()).map(|server| server.place.clone()))
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.is_closed.load(Ordering::SeqCst) { Err(Error::closed()) } else { Ok(()) }
    }

    async fn run_all(&self, calls: &[Call]) -> Vec<RedisResult<Value>> {
        let by_hash = calls.iter().map(|call| call.command("EVALSHA", &call.script.hash)).collect();
        let mut results = self.send_all(by_hash).await;
        // The server has forgotten its scripts: it was started again, another took over, or
        // an operator made it one. Nothing was done then.
        let is_unknown = |result: &RedisResult<Value>| matches!(result, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript));
        let unknown: Vec<usize> = (0..results.len()).filter(|n| is_unknown(&results[*n])).collect();
        if !unknown.is_empty() {
            let in_full =
                unknown.iter().map(|n| calls[*n].command("EVAL", calls[*n].script.text)).collect();
            for (n, result) in unknown.into_iter().zip(self.send_all(in_full).await) {
                results[n] = result;
            }
        }
        results
    }

    async fn send(&self, order: Order) -> RedisResult<Value> {
        self.send_all(vec![order]).await.pop().unwrap_or_else(|| Err(nobody()))
    }

    /// Sends what goes to the same server together. Again only what a server has refused because it
    /// is not, or not yet, the one to ask: of that nothing was done.
    async fn send_all(&self, orders: Vec<Order>) -> Vec<RedisResult<Value>> {
        let begun = Instant::now();
        let mut answers: Vec<RedisResult<Value>> = orders.iter().map(|_| Err(nobody())).collect();
        let mut open: Vec<usize> = (0..orders.len()).collect();
        let mut pause = REDIRECT_DELAY_MIN;
        loop {
            open = self.send_once(&orders, &open, &mut answers).await;
            if open.is_empty() || begun.elapsed() >= REDIRECT_TIMEOUT {
                return answers;
            }
            sleep(pause).await;
            pause = (pause * 2).min(REDIRECT_DELAY_MAX);
        }
    }

    /// Which of them are to be sent again.
    async fn send_once(
        &self,
        orders: &[Order],
        open: &[usize],
        answers: &mut [RedisResult<Value>],
    ) -> Vec<usize> {
        let mut groups: BTreeMap<String, (Arc<Server>, Vec<usize>)> = BTreeMap::new();
        let mut again = Vec::new();
        self.shared.read(|slots| {
            for n in open {
                match slots.master_of(&orders[*n].key) {
                    Some(server) => groups
                        .entry(server.place.clone())
                        .or_insert_with(|| (server.clone(), Vec::new()))
                        .1
                        .push(*n),
                    None => again.push(*n),
                }
            }
        });
        if !again.is_empty() {
            self.shared.unsure.notify_one();
        }
        let exchanges = groups.into_values().map(|(server, numbers)| async move {
            let commands: Vec<&Cmd> = numbers.iter().map(|n| &orders[*n].command).collect();
            let exchange = server.exchange(&commands, false).await;
            (server, numbers, exchange)
        });
        let mut asked = Vec::new();
        for (server, numbers, exchange) in join_all(exchanges).await {
            for (n, answer) in numbers.iter().copied().zip(self.shared.answers(&numbers, exchange))
            {
                match self.shared.next(&orders[n], &answer, &server) {
                    Next::Answered => {}
                    Next::Ask(place) => asked.push((n, place)),
                    Next::Moved | Next::Again => again.push(n),
                }
                answers[n] = answer;
            }
        }
        for (n, place) in asked {
            let Some(server) = self.shared.write(|slots| slots.at(&place)) else { continue };
            let exchange = server.exchange(&[&orders[n].command], true).await;
            let Some(answer) = self.shared.answers(&[n], exchange).pop() else { continue };
            if !matches!(self.shared.next(&orders[n], &answer, &server), Next::Answered) {
                again.push(n);
            }
            answers[n] = answer;
        }
        again
    }
}

impl Shared {
    fn read<T>(&self, read: impl FnOnce(&Slots) -> T) -> T {
        // Nothing panics under the lock.
        read(&self.slots.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Slots) -> T) -> T {
        write(&mut self.slots.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// One for each.
    fn answers(&self, numbers: &[usize], exchange: Exchange) -> Vec<RedisResult<Value>> {
        match exchange {
            Exchange::Answered(answers) => answers,
            Exchange::NotSent(error) => {
                self.unsure.notify_one();
                let not_sent =
                    || (ErrorKind::ClusterConnectionNotFound, "no connection", error.to_string());
                numbers
                    .iter()
                    .map(|_| Err(if is_wrong(&error) { error.clone() } else { not_sent().into() }))
                    .collect()
            }
            Exchange::Unknown(error) => {
                self.unsure.notify_one();
                numbers.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn next(&self, order: &Order, answer: &RedisResult<Value>, server: &Server) -> Next {
        let Err(error) = answer else { return Next::Answered };
        let place =
            || error.redirect_node().map(|(place, _)| slots::complete(place, &server.place));
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => {
                self.unsure.notify_one();
                let Some(place) = place() else { return Next::Again };
                self.write(|slots| {
                    if let Some(server) = slots.at(&place) {
                        slots.moved(&order.key, &server);
                    }
                });
                Next::Moved
            }
            ErrorKind::Server(ServerErrorKind::Ask) => match place() {
                Some(place) if !order.is_whole => Next::Ask(place),
                _ => Next::Again,
            },
            ErrorKind::Server(ServerErrorKind::TryAgain) => Next::Again,
            // Answered immediately: it may take long.
            ErrorKind::Server(
                ServerErrorKind::ClusterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown,
            ) => {
                self.unsure.notify_one();
                Next::Answered
            }
            _ => Next::Answered,
        }
    }

    /// Asks the cluster who has which slots; `false`: no server answers.
    async fn refresh(&self) -> bool {
        let (masters, others) = self.read(|slots| (slots.masters().to_vec(), slots.others()));
        for servers in [masters, others] {
            let mut asked: FuturesUnordered<_> = servers
                .iter()
                .map(|server| async move {
                    let mut question = redis::cmd("CLUSTER");
                    question.arg("SLOTS");
                    let answer =
                        timeout(REFRESH_TIMEOUT, server.exchange(&[&question], false)).await;
                    let Ok(Exchange::Answered(mut answers)) = answer else { return None };
                    slots::read(answers.pop()?, &server.place)
                })
                .collect();
            while let Some(answer) = asked.next().await {
                if let Some(ranges) = answer {
                    self.write(|slots| slots.update(ranges));
                    return true;
                }
            }
        }
        false
    }
}

/// As long as the client is used.
async fn keep_fresh(shared: std::sync::Weak<Shared>) {
    let mut is_fresh = true;
    loop {
        let Some(shared) = shared.upgrade() else { return };
        // Not forever: the client may be gone meanwhile.
        let _ = timeout(REFRESH_INTERVAL, shared.unsure.notified()).await;
        let before = masters(&shared);
        let was_fresh = std::mem::replace(&mut is_fresh, shared.refresh().await);
        if was_fresh && !is_fresh {
            warn!("no server of the Redis cluster reports its slots; retrying");
        }
        let now = masters(&shared);
        if now != before {
            info!(masters = now.join(","), "the masters of the Redis cluster have changed");
        }
        drop(shared);
        sleep(REFRESH_RETRY_DELAY).await;
    }
}

fn masters(shared: &Shared) -> Vec<String> {
    let mut places: Vec<String> =
        shared.read(|slots| slots.masters().iter().map(|master| master.place.clone()).collect());
    places.sort_unstable();
    places
}

/// The key that decides where a command goes.
fn key_of(command: &Cmd) -> Option<Vec<u8>> {
    let word = |n: usize| match command.args_iter().nth(n)? {
        Arg::Simple(word) => Some(word.to_vec()),
        _ => None,
    };
    match word(0)?.as_slice() {
        b"XGROUP" | b"XINFO" => word(2),
        b"XREAD" | b"XREADGROUP" => {
            let streams =
                command.args_iter().position(|word| matches!(word, Arg::Simple(b"STREAMS")))?;
            word(streams + 1)
        }
        _ => word(1),
    }
}

fn nobody() -> RedisError {
    RedisError::from((ErrorKind::ClusterConnectionNotFound, "no server has the slot of this key"))
}

/// A person has to act.
fn is_wrong(error: &RedisError) -> bool {
    matches!(Error::of(error), Error::Broken(_))
}

fn text(value: RedisResult<Value>) -> RedisResult<String> {
    Ok(redis::from_redis_value(value?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_command_is_found() {
        let of = |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            String::from_utf8(key_of(&command).unwrap_or_default()).unwrap()
        };
        assert_eq!(of(&["GET", "a"]), "a");
        assert_eq!(of(&["XGROUP", "CREATE", "b", "workers", "0"]), "b");
        assert_eq!(
            of(&["XREADGROUP", "GROUP", "crux", "me", "COUNT", "1", "STREAMS", "c", ">"]),
            "c"
        );
        assert_eq!(of(&["SPUBLISH", "d", "text"]), "d");
        assert_eq!(of(&["INFO"]), "");
    }
}
