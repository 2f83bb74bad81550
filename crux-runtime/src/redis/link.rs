//! The connection: one multiplexed connection to a server, or one to each master of a cluster. What is asked at the same time shares it,
//! and what is asked together goes out together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::io::tcp::TcpSettings;
use redis::{Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use super::{Error, Script};

/// A call of a script.
pub(crate) struct Call {
    pub script: &'static Script,
    pub base: String,
    pub args: Vec<Vec<u8>>,
}

impl Call {
    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(&self.base).arg(&self.args);
        command
    }
}

/// How to reach the server.
#[derive(Clone)]
pub(crate) struct Address {
    /// The server, or some of the cluster's.
    pub nodes: Vec<ConnectionInfo>,
    /// How long an answer may take. After that it is not known what became of the question.
    pub timeout: Duration,
}

#[derive(Clone)]
pub(crate) struct Link {
    wire: Wire,
    is_closed: Arc<AtomicBool>,
}

#[derive(Clone)]
enum Wire {
    One(ConnectionManager),
    Many(ClusterConnection),
}

impl Link {
    /// Connects; finds out by itself whether a cluster is there.
    pub async fn open(address: &Address) -> Result<Self, Error> {
        let one = connect_one(address).await?;
        let link = |wire| Self { wire, is_closed: Arc::new(AtomicBool::new(false)) };
        let info: String =
            one.clone().send_packed_command(redis::cmd("INFO").arg("cluster")).await.and_then(text).map_err(|error| Error::of(&error))?;
        if !info.contains("cluster_enabled:1") {
            return Ok(link(Wire::One(one)));
        }
        let client = ClusterClient::builder(address.nodes.clone())
            .tcp_settings(tcp())
            .connection_timeout(address.timeout)
            .response_timeout(address.timeout)
            // The engine asks again itself, under the same token.
            .retries(4)
            .build()
            .map_err(|error| Error::of(&error))?;
        Ok(link(Wire::Many(client.get_async_connection().await.map_err(|error| Error::of(&error))?)))
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self.wire, Wire::Many(_))
    }

    /// From now on nothing is asked any more. Whether it was open.
    pub fn close(&self) -> bool {
        !self.is_closed.swap(true, Ordering::SeqCst)
    }

    pub async fn ask(&self, command: Cmd) -> Result<Value, Error> {
        self.check_open()?;
        self.send(command).await.map_err(|error| Error::of(&error))
    }

    /// Commands of any tags, all at once; an error of one is the error of all.
    pub async fn ask_all(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, Error> {
        self.check_open()?;
        self.send_all(commands).await.into_iter().map(|result| result.map_err(|error| Error::of(&error))).collect()
    }

    pub async fn call(&self, call: Call) -> Result<Value, Error> {
        self.call_all(vec![call]).await.pop().unwrap_or_else(|| Err(Error::closed()))
    }

    /// Scripts, all at once, each for itself.
    pub async fn call_all(&self, calls: Vec<Call>) -> Vec<Result<Value, Error>> {
        if let Err(error) = self.check_open() {
            return calls.iter().map(|_| Err(error.clone())).collect();
        }
        self.run_all(&calls).await.into_iter().map(|result| result.map_err(|error| Error::of(&error))).collect()
    }

    /// As [`Self::call`], also when the store is closed.
    pub async fn call_last(&self, call: Call) -> Result<(), Error> {
        let results = self.run_all(&[call]).await;
        results.into_iter().try_for_each(|result| result.map(drop).map_err(|error| Error::of(&error)))
    }

    /// How many replicas have got everything that was written so far for that tag, after `timeout` at the latest.
    pub async fn replicas(&self, base: &str, wanted: u32, timeout: Duration) -> Result<u32, Error> {
        let mut wait = redis::cmd("WAIT");
        wait.arg(wanted).arg(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let reached = match &self.wire {
            Wire::One(_) => self.send(wait).await,
            Wire::Many(cluster) => {
                let master = SingleNodeRoutingInfo::SpecificNode(Route::with_key(base, SlotAddr::Master));
                cluster.clone().route_command(wait, RoutingInfo::SingleNode(master)).await
            }
        };
        reached.and_then(|value| Ok(redis::from_redis_value(value)?)).map_err(|error| Error::of(&error))
    }

    /// How many hear it.
    pub async fn tell(&self, channel: &str, message: &[u8]) -> Result<u64, Error> {
        self.check_open()?;
        let mut publish = redis::cmd("SPUBLISH");
        publish.arg(channel).arg(message);
        let heard = match &self.wire {
            Wire::One(_) => self.send(publish).await,
            Wire::Many(cluster) => {
                let master = SingleNodeRoutingInfo::SpecificNode(Route::with_key(channel, SlotAddr::Master));
                cluster.clone().route_command(publish, RoutingInfo::SingleNode(master)).await
            }
        };
        heard.and_then(|value| Ok(redis::from_redis_value(value)?)).map_err(|error| Error::of(&error))
    }

    /// The same question to the server, or to each master, by its address.
    pub async fn ask_masters(&self, command: Cmd) -> RedisResult<Vec<(String, Value)>> {
        match &self.wire {
            Wire::One(_) => Ok(vec![(String::new(), self.send(command).await?)]),
            Wire::Many(cluster) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                Ok(redis::from_redis_value(cluster.clone().route_command(command, masters).await?)?)
            }
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.is_closed.load(Ordering::SeqCst) { Err(Error::closed()) } else { Ok(()) }
    }

    async fn run_all(&self, calls: &[Call]) -> Vec<RedisResult<Value>> {
        let by_hash = calls.iter().map(|call| call.command("EVALSHA", &call.script.hash)).collect();
        let mut results = self.send_all(by_hash).await;
        // The server has forgotten its scripts: it was started again, another took over, or somebody told it to. Nothing was done then.
        let is_unknown =
            |result: &RedisResult<Value>| matches!(result, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript));
        let unknown: Vec<usize> = (0..results.len()).filter(|n| is_unknown(&results[*n])).collect();
        if !unknown.is_empty() {
            let in_full = unknown.iter().map(|n| calls[*n].command("EVAL", calls[*n].script.text)).collect();
            for (n, result) in unknown.into_iter().zip(self.send_all(in_full).await) {
                results[n] = result;
            }
        }
        results
    }

    async fn send(&self, command: Cmd) -> RedisResult<Value> {
        let value = match &self.wire {
            Wire::One(one) => one.clone().send_packed_command(&command).await,
            Wire::Many(many) => many.clone().req_packed_command(&command).await,
        };
        value.and_then(Value::extract_error)
    }

    async fn send_all(&self, mut commands: Vec<Cmd>) -> Vec<RedisResult<Value>> {
        if commands.len() <= 1 {
            return match commands.pop() {
                Some(command) => vec![self.send(command).await],
                None => Vec::new(),
            };
        }
        match &self.wire {
            Wire::One(one) => {
                let count = commands.len();
                let mut pipeline = Pipeline::with_capacity(count);
                for command in commands {
                    pipeline.add_command(command);
                }
                match one.clone().send_packed_commands(&pipeline, 0, count).await {
                    Ok(values) if values.len() == count => values.into_iter().map(Value::extract_error).collect(),
                    Ok(_) => (0..count).map(|_| Err(RedisError::from((ErrorKind::Client, "answers are missing")))).collect(),
                    Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
                }
            }
            // A pipeline belongs to one slot; sent side by side, commands share their master's connection all the same.
            Wire::Many(_) => join_all(commands.into_iter().map(|command| self.send(command))).await,
        }
    }
}

async fn connect_one(address: &Address) -> Result<ConnectionManager, Error> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(address.timeout))
        .set_response_timeout(Some(address.timeout))
        // Whoever asks while nobody is there is told so, and asks again: each question begins a new attempt.
        .set_number_of_retries(1)
        .set_max_delay(Duration::from_millis(500));
    let mut last = Error::Broken("no address of Redis is known: set `redis.url`".to_owned());
    for node in &address.nodes {
        let place = node.addr().to_string();
        let client = redis::Client::open(node.clone().set_tcp_settings(tcp())).map_err(|error| Error::of(&error))?;
        match ConnectionManager::new_with_config(client, config.clone()).await {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                let text = format!("Redis at {place} cannot be reached: {error}");
                last = if matches!(Error::of(&error), Error::Broken(_)) { Error::Broken(text) } else { Error::Unavailable(text) };
            }
        }
    }
    Err(last)
}

/// Small packets at once; a peer that is gone without a word is noticed.
pub(crate) fn tcp() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(10));
    settings
}

fn text(value: Value) -> RedisResult<String> {
    Ok(redis::from_redis_value(value)?)
}
