//! The bus over Redis Streams: a stream for each routing key. Tasks, hooks and emitted events are
//! added by a script that checks for a consumer group and for room; results and events are read by
//! all nodes as one group.
//!
//! [`publisher`] adds messages and keeps those that the server has not confirmed; [`consumer`]
//! reads each stream by a [`reader`] with its own connection and acknowledges entries once they are
//! durable; [`broadcast`] receives heartbeats and cancellations, and [`task_consumer`] gets a
//! worker process its tasks. [`topology`] lists the streams, [`entry`] encodes messages.

mod broadcast;
mod consumer;
mod entry;
mod parked;
mod publisher;
mod reader;
mod scripts;
mod task_consumer;
pub mod topology;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub use crate::bus::redis_streams::topology::Topology;

use crate::app::App;
use crate::bus::broker::parking::Parking;
use crate::bus::broker::status::State;
use crate::bus::broker::{Broker, Parts};
use crate::bus::http::Local;
use crate::bus::redis_streams::consumer::{Consumer, create_group};
use crate::bus::redis_streams::publisher::Publisher;
use crate::bus::routing_keys::{class_types, task_keys, work_key};
use crate::bus::session::is_stopping;
use crate::redis_client::address::address;
use crate::redis_client::durability::Durability;
use crate::redis_client::{Address, Error, RedisClient};
use crate::supervise;

/// How long the start waits for the server before it goes on without.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Between tries to reach the server. Short: a fail-over of a cluster takes a few seconds, and a
/// try costs next to nothing.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);

/// Options of the bus.
#[derive(Debug, Clone)]
pub struct Options {
    /// `redis://user:password@host:port/db`; of a cluster, one or several of its servers.
    pub urls: Vec<String>,
    /// Instead of those in the addresses.
    pub username: Option<String>,
    pub password: Option<String>,
    /// Every key begins with it.
    pub prefix: String,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a node may hold an entry without acknowledging it before another node claims it.
    pub lease: Duration,
    /// Entries of a stream, at most; what does not fit stays with Crux.
    pub max_length: usize,
    /// Messages added and not confirmed, at most.
    pub max_unconfirmed: usize,
    /// Messages that wait to be added, at most.
    pub max_queued: usize,
    /// Entries read and not acknowledged, at most, of each stream.
    pub prefetch: usize,
    /// After how long a parked entry is retried.
    pub parked_retry_delay: Duration,
    /// Say in the log what the server keeps when it dies; not needed if the store is there too.
    pub says_durability: bool,
}

impl Options {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            username: None,
            password: None,
            prefix: "crux".to_owned(),
            timeout: Duration::from_secs(5),
            lease: Duration::from_secs(10),
            max_length: 100_000,
            max_unconfirmed: 1024,
            max_queued: 8192,
            prefetch: 512,
            parked_retry_delay: Duration::from_secs(60),
            says_durability: false,
        }
    }

    fn address(&self) -> Result<Address, Error> {
        let of = |url: &String| address(url, self.username.as_deref(), self.password.as_deref());
        Ok(Address {
            nodes: self.urls.iter().map(of).collect::<Result<_, _>>()?,
            timeout: self.timeout,
        })
    }
}

/// Why there is no bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A person has to act.
    #[error("{0}")]
    Wrong(String),
    /// Passes by itself, or with the server's coming back.
    #[error("{0}")]
    Lost(String),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Broken(text) | Error::WrongType(text) => Self::Wrong(text),
            Error::Full(text) | Error::Refused(text) | Error::Unavailable(text) => Self::Lost(text),
        }
    }
}

/// Begins to publish, on the tokio runtime of the caller. A server that is not there is no error:
/// what is to be published waits for it. The error: the server refuses this user, or the address is
/// none. Services in `pushed` get their tasks by HTTP. `work`: the step types of step structs whose
/// tasks leave for workers in other processes, or, at such a worker, come to it.
pub async fn open(
    app: &App,
    options: Options,
    pushed: Arc<Local>,
    work: &[&'static str],
) -> Result<Broker, Problem> {
    let (address, topology) =
        (options.address()?, Arc::new(Topology::new(app, &options.prefix, work)));
    let options = Arc::new(options);
    let keys = task_keys(app).into_iter().chain(work.iter().map(|step_type| work_key(step_type)));
    let parking =
        Parking::new(topology.parked.clone(), options.prefetch, options.parked_retry_delay);
    let state = Arc::new(State::new("Redis", keys.collect(), parking));
    let (stop, stopping) = watch::channel(false);
    let (outgoing, inbox) = mpsc::channel(options.max_queued);
    let (first, tried) = oneshot::channel();
    let publisher = Publisher {
        options: options.clone(),
        address: address.clone(),
        state: state.clone(),
        inbox,
        stopping: stopping.clone(),
        again: VecDeque::new(),
    };
    let probe = stopping.clone();
    let publishing = supervise::keep_running(
        "publishing over Redis",
        move || is_stopping(&probe),
        publisher.run(first),
    );
    // Not connected yet: the publisher says why, and tries again.
    if let Ok(Ok(Err(wrong @ Problem::Wrong(_)))) =
        tokio::time::timeout(FIRST_CONNECT_TIMEOUT, tried).await
    {
        publishing.abort();
        return Err(wrong);
    }
    let consumer = Box::new(Consumer::new(options, address, topology, state.clone(), stopping));
    Ok(Broker::new(Parts { state, outgoing, pushed, consumer, stop, publishing }))
}

/// Creates all groups, those of services too, and says how it went.
pub async fn declare(app: &App, options: &Options) -> Result<Topology, Problem> {
    let topology = Topology::new(app, &options.prefix, &class_types(app));
    let client = RedisClient::open(&options.address()?).await?;
    for stream in topology.own.iter().chain(&topology.work).chain(&topology.services) {
        if let Some(group) = stream.group {
            create_group(&client, &stream.key, group).await?;
        }
    }
    Ok(topology)
}

/// Says in the log what the server keeps when it dies.
async fn say_durability(client: &RedisClient, address: &Address) {
    let place = address.nodes.first().map_or_else(String::new, |node| node.addr().to_string());
    Durability::look(client).await.say(&place);
}
