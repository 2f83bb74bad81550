//! The configuration: what a person may set, with its defaults, as one typed value. [`load()`]
//! reads it from a file, the environment and flags; this file only says what there is. Nothing in here
//! acts: `server` turns it into options of the parts.

mod auth;
mod jwt;
mod load;
mod network;
mod place;
mod redis;
mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bus::http::response::Meaning;
use crate::bus::rabbitmq;
use crate::executor::StepSelection;

pub use crate::telemetry::{Log, LogFormat};
pub use crate::units::{ByteSize, DurationSetting};
pub use auth::{Auth, Role};
pub(crate) use auth::{CLIENT_ID_FORM, Client, KEYS_MAX, KeyHash, Scope, is_client_id};
pub(crate) use jwt::Jwt;
pub use load::{Error, Sources, load};
pub use network::Network;
pub use redis::Redis;

/// Everything that can be set. An unknown key anywhere stops the start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    /// Who may call. Without it everybody may do everything, and the server listens on the loopback
    /// interface only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    pub store: Store,
    /// Where the store is, if its kind is `redis`, and the bus, if it is that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    pub bus: BusKind,
    /// Services by name. One with `steps` gets its tasks by HTTP, one with `subscribe` hooks and
    /// emitted events.
    pub services: BTreeMap<String, Service>,
    /// Maximum concurrent attempts of step structs.
    pub workers: crate::executor::Options,
    pub limits: Limits,
    pub log: Log,
    /// Texts that expressions read as `config.NAME`.
    pub config: BTreeMap<String, String>,
    /// Of `bus: rabbitmq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<Rabbitmq>,
    /// Variables that look like settings and are Kubernetes' own; see [`load()`].
    #[serde(skip)]
    pub passed_over: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// An address of this machine; without `auth` one of its loopback interface.
    pub host: String,
    /// 0: one that is free; the log says which.
    pub port: u16,
    /// Any word; shown in `/health`.
    pub environment: String,
    /// Names that the `Host` header may have beside those of the loopback interface. With `auth` and
    /// without names here: any.
    pub hosts: Vec<String>,
    /// Addresses and networks of proxies whose forwarding headers count: `10.0.0.0/8`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind_proxy: Vec<Network>,
    /// Origins of browser pages, beside the server's own, that may talk to it:
    /// `http://localhost:5173`.
    pub origins: Vec<String>,
    pub max_connections: usize,
    /// The longest time for which `?wait=` holds a request.
    pub max_wait: DurationSetting,
    /// How long a shutdown may take.
    pub shutdown: DurationSetting,
    /// The step structs that run in this process; the others run in workers.
    pub steps: StepSelection,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            environment: "development".to_owned(),
            hosts: Vec::new(),
            behind_proxy: Vec::new(),
            origins: Vec::new(),
            max_connections: 20_000,
            max_wait: DurationSetting(std::time::Duration::from_secs(300)),
            shutdown: DurationSetting(std::time::Duration::from_secs(20)),
            steps: StepSelection::All,
        }
    }
}

impl Server {
    /// Whether only programs on this machine reach it.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    pub kind: StoreKind,
    /// The SQLite file.
    pub path: PathBuf,
    /// No start on a store that may lose what it has confirmed beyond its mode's loss window.
    pub require_durable: bool,
    /// How many replicas of Redis must have a transition before it counts; 0: none.
    pub wait_replicas: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: StoreKind::Sqlite,
            path: PathBuf::from("crux.db"),
            require_durable: false,
            wait_replicas: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    Sqlite,
    /// A server or a cluster, under `redis`.
    Redis,
    /// Gone when the process ends.
    Memory,
}

/// How tasks reach services that are not attached by HTTP, and how hooks and emitted events leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusKind {
    /// Not at all.
    #[default]
    Local,
    Rabbitmq,
    /// Streams on the server under `redis`.
    Redis,
}

/// A service: it works on tasks, or subscribes to messages.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Instead of `host` and `port`: where it gets them by POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The step types whose tasks it gets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// Routing keys of the hooks and emitted events that it gets, or patterns: `workflow.*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
    /// How many tasks it is sent at a time, and how many messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// The meaning of statuses of 400 and above, where it differs from the usual one: `401: later`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub statuses: BTreeMap<String, Meaning>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Of a request's body and of a WebSocket message.
    pub max_body_size: ByteSize,
    /// Of all bodies and messages that are being received at the same time, beyond 16 KiB of each.
    pub max_buffered_bodies: ByteSize,
    /// Of a step's result.
    pub max_result_size: ByteSize,
    pub max_journal_events: u32,
    pub max_journal_size: ByteSize,
    /// Maximum unsettled instances; beyond it starts are refused.
    pub max_unsettled_instances: u64,
    /// Starts are refused while less than this is free on the store's disk.
    pub min_free_disk: ByteSize,
    /// How long events are kept for waits that come later.
    pub event_retention: DurationSetting,
    /// Waiting instances that stay in memory.
    pub max_cached_instances: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let engine = crate::engine::Options::default();
        let size = |bytes: usize| ByteSize(u64::try_from(bytes).unwrap_or(u64::MAX));
        Self {
            max_body_size: ByteSize(1 << 20),
            max_buffered_bodies: ByteSize(64 << 20),
            max_result_size: size(engine.max_result_bytes),
            max_journal_events: engine.max_journal_rows,
            max_journal_size: size(engine.max_journal_bytes),
            max_unsettled_instances: u64::try_from(engine.max_unsettled).unwrap_or(u64::MAX),
            min_free_disk: ByteSize(engine.min_free_bytes),
            event_retention: DurationSetting(std::time::Duration::from_millis(
                engine.keep_events_ms,
            )),
            max_cached_instances: engine.cached_instances,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rabbitmq {
    pub url: String,
    pub exchange: String,
    /// How often a message is published again that a queue did not take, before the instance shows
    /// it.
    pub max_retries: u32,
    /// Before the first of these.
    pub retry_delay: DurationSetting,
    /// With what the names of the queues begin that this app consumes.
    pub prefix: String,
    /// Messages published and not confirmed.
    pub max_unconfirmed: usize,
    /// Messages that wait to be published.
    pub max_queued: usize,
    /// Deliveries taken and not acknowledged, of each queue.
    pub prefetch: u16,
    /// After how long a parked message is retried.
    pub parked_retry_delay: DurationSetting,
}

impl Default for Rabbitmq {
    fn default() -> Self {
        let rabbitmq::Options {
            url,
            exchange,
            prefix,
            max_retries,
            retry_delay,
            max_unconfirmed,
            max_queued,
            prefetch,
            parked_retry_delay,
            ..
        } = rabbitmq::Options::default();
        Self {
            url,
            exchange,
            prefix,
            max_retries,
            retry_delay: DurationSetting(retry_delay),
            max_unconfirmed,
            max_queued,
            prefetch,
            parked_retry_delay: DurationSetting(parked_retry_delay),
        }
    }
}

impl Rabbitmq {
    pub(crate) fn options(&self) -> rabbitmq::Options {
        let Self {
            url,
            exchange,
            prefix,
            max_retries,
            retry_delay,
            max_unconfirmed,
            max_queued,
            prefetch,
            parked_retry_delay,
        } = self.clone();
        rabbitmq::Options {
            url,
            exchange,
            prefix,
            max_retries,
            retry_delay: retry_delay.0,
            max_unconfirmed,
            max_queued,
            prefetch,
            parked_retry_delay: parked_retry_delay.0,
            ..rabbitmq::Options::default()
        }
    }

    fn check(&self) -> Result<(), Problem> {
        rabbitmq::connection::address(&self.url)
            .map_err(|text| Problem::new("rabbitmq.url", text))?;
        for (key, name) in
            [("rabbitmq.exchange", &self.exchange), ("rabbitmq.prefix", &self.prefix)]
        {
            let is_name = (1..=100).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
            if !is_name {
                return Err(Problem::new(
                    key,
                    format!(
                        "`{name}` is not a valid name: use 1 to 100 letters, digits, `_`, `-` and `.`"
                    ),
                ));
            }
        }
        for (key, value) in [
            ("max_unconfirmed", self.max_unconfirmed),
            ("max_queued", self.max_queued),
            ("prefetch", usize::from(self.prefetch)),
        ] {
            if value == 0 || value > 1_000_000 {
                return Err(Problem::new(
                    format!("rabbitmq.{key}"),
                    "must be at least 1, and at most 1000000",
                ));
            }
        }
        if !PARKED_RETRY_DELAYS.contains(&self.parked_retry_delay.0) {
            return Err(Problem::new(
                "rabbitmq.parked_retry_delay",
                "must be at least 1s, and at most a day",
            ));
        }
        Ok(())
    }
}

/// Bounds of how long a message stays parked.
const PARKED_RETRY_DELAYS: std::ops::RangeInclusive<std::time::Duration> =
    std::time::Duration::from_secs(1)..=std::time::Duration::from_secs(24 * 3600);

impl Config {
    /// Checks that types cannot express: values that are valid alone but not together.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        match &self.auth {
            Some(auth) => auth.check()?,
            None if !self.server.is_loopback() => {
                let host = &self.server.host;
                let text = format!(
                    "`{host}` is not on this machine's loopback interface, and without `auth` every caller may do everything: add `auth` (`crux key new ID` makes a key), or use 127.0.0.1, ::1 or localhost"
                );
                return Err(Problem::new("server.host", text));
            }
            None if !self.server.behind_proxy.is_empty() => {
                let text = "needs `auth`: what a proxy forwards comes from other machines, and every caller may do everything";
                return Err(Problem::new("server.behind_proxy", text));
            }
            None => {}
        }
        if self.server.max_connections == 0 {
            return Err(Problem::new("server.max_connections", "must be at least 1"));
        }
        if self.limits.max_buffered_bodies.0 < self.limits.max_body_size.0 {
            return Err(Problem::new(
                "limits.max_buffered_bodies",
                "must be at least `limits.max_body_size`: else no body of that size could ever come",
            ));
        }
        for origin in &self.server.origins {
            if !is_origin(origin) {
                return Err(Problem::new(
                    "server.origins",
                    format!(
                        "`{origin}` is not an origin: write scheme, host and port, like `http://localhost:5173`"
                    ),
                ));
            }
        }
        if self.workers.heartbeat_timeout.0 < std::time::Duration::from_millis(100) {
            return Err(Problem::new("workers.heartbeat_timeout", "must be at least 100ms"));
        }
        self.store.check()?;
        if let Some(redis) = &self.redis {
            redis.check().map_err(|(key, text)| Problem::new(format!("redis.{key}"), text))?;
        }
        for (name, service) in &self.services {
            service.check().map_err(|text| Problem::new(format!("services.{name}"), text))?;
        }
        if let Some(rabbitmq) = &self.rabbitmq {
            rabbitmq.check()?;
        }
        self.one_service_per_step()
    }

    fn one_service_per_step(&self) -> Result<(), Problem> {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, service) in &self.services {
            for step in &service.steps {
                if let Some(other) = owners.insert(step, name) {
                    let text = format!(
                        "`{step}` is already given to services.{other}: a step type has one service"
                    );
                    return Err(Problem::new(format!("services.{name}.steps"), text));
                }
            }
        }
        Ok(())
    }
}

impl Store {
    fn check(&self) -> Result<(), Problem> {
        match self.kind {
            StoreKind::Memory if self.require_durable => Err(Problem::new(
                "store.require_durable",
                "the kind `memory` keeps nothing: use `sqlite` or `redis`",
            )),
            StoreKind::Memory | StoreKind::Sqlite if self.wait_replicas > 0 => {
                Err(Problem::new("store.wait_replicas", "only the kind `redis` has replicas"))
            }
            _ => Ok(()),
        }
    }
}

/// The meaning of a status that reports a failure.
fn status_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| (400..600).contains(status))
}

impl Service {
    fn check(&self) -> Result<(), String> {
        let wrong = self.address().and_then(|url| crate::address::http(&url).err());
        match (&self.url, &self.host, self.port) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                Err("has both `url` and `host` or `port`: keep one".to_owned())
            }
            _ if let Some(why) = wrong => {
                Err(format!("has no address that anything can be posted to: {why}"))
            }
            (None, None, _) if self.is_pushed_to() => {
                let what = if self.steps.is_empty() { "subscribe" } else { "steps" };
                Err(format!("has `{what}` and no address: add `url`, or `host` and `port`"))
            }
            (None, Some(_), None) if self.is_pushed_to() => {
                Err("has `host` and no `port`: add it".to_owned())
            }
            _ if self.concurrency == Some(0) => Err("`concurrency` must be at least 1".to_owned()),
            _ => match self.statuses.keys().find(|status| status_number(status).is_none()) {
                Some(status) => Err(format!(
                    "`statuses` has `{status}`, which is not an HTTP status from 400 to 599"
                )),
                None => Ok(()),
            },
        }
    }

    /// By the numbers of the statuses.
    pub fn statuses(&self) -> BTreeMap<u16, Meaning> {
        self.statuses
            .iter()
            .filter_map(|(status, meaning)| Some((status_number(status)?, *meaning)))
            .collect()
    }

    /// Whether it gets tasks or messages.
    pub fn is_pushed_to(&self) -> bool {
        !self.steps.is_empty() || !self.subscribe.is_empty()
    }

    /// Where tasks and messages are posted to; `None`: it has no address.
    pub fn address(&self) -> Option<String> {
        match (&self.url, &self.host, self.port) {
            (Some(url), ..) => Some(url.clone()),
            (None, Some(host), Some(port)) => Some(format!("http://{host}:{port}/")),
            _ => None,
        }
    }
}

/// `null` is what pages from files send.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    text == "null" || rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '*', ' ']))
}

/// A value that makes no sense, by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) key: String,
    pub(crate) text: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { key: key.into(), text: text.into() }
    }
}

#[cfg(test)]
mod tests;
