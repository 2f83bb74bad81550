//! The section `redis`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DurationSetting;
use crate::bus::redis_streams as streams;

const DEFAULT_PORT: u16 = 6379;

/// Where Redis is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://user:password@host:6379/0`; or `host`, `port` and `db`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Other servers of a cluster, `host:port` each, that are asked if the first is not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// The prefix of every key.
    pub prefix: String,
    /// How long an answer may take.
    pub timeout: DurationSetting,
    /// How long a silent node counts as alive.
    pub lease: DurationSetting,
    /// Of `bus: redis`, as what follows: entries of a stream, at most.
    pub stream_length: usize,
    /// Messages added and not confirmed.
    pub max_unconfirmed: usize,
    /// Messages that wait to be added.
    pub max_queued: usize,
    /// Entries read and not acknowledged, of each stream.
    pub prefetch: usize,
    /// After how long a parked entry is retried.
    pub parked_retry_delay: DurationSetting,
}

impl Default for Redis {
    fn default() -> Self {
        let streams::Options {
            max_length,
            max_unconfirmed,
            max_queued,
            prefetch,
            parked_retry_delay,
            ..
        } = streams::Options::new("");
        Self {
            url: None,
            host: None,
            port: None,
            db: None,
            username: None,
            password: None,
            nodes: Vec::new(),
            prefix: "crux".to_owned(),
            timeout: DurationSetting(Duration::from_secs(5)),
            lease: DurationSetting(Duration::from_secs(10)),
            stream_length: max_length,
            max_unconfirmed,
            max_queued,
            prefetch,
            parked_retry_delay: DurationSetting(parked_retry_delay),
        }
    }
}

impl Redis {
    /// Or what is wrong with which key.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(url) = &self.url {
            if self.host.is_some() || self.port.is_some() || self.db.is_some() {
                return Err((
                    "url",
                    "stands beside `host`, `port` or `db`: keep one of the two ways".to_owned(),
                ));
            }
            if !url.starts_with("redis://") {
                return Err((
                    "url",
                    "it begins with redis:// (this binary is built without TLS)".to_owned(),
                ));
            }
        }
        if let Some(node) = self.nodes.iter().find(|node| node.contains('/') || !node.contains(':'))
        {
            return Err(("nodes", format!("`{node}` is not `host:port`")));
        }
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return Err((
                "prefix",
                format!("`{}` begins every key: it is not empty and has no braces", self.prefix),
            ));
        }
        if self.timeout.0 < Duration::from_millis(50) {
            return Err(("timeout", "must be at least 50ms".to_owned()));
        }
        if self.lease.0 < Duration::from_millis(500) {
            return Err(("lease", "must be at least 500ms".to_owned()));
        }
        let counts = [
            ("stream_length", self.stream_length, 100_000_000),
            ("max_unconfirmed", self.max_unconfirmed, 1_000_000),
        ];
        for (key, value, most) in counts.into_iter().chain([
            ("max_queued", self.max_queued, 1_000_000),
            ("prefetch", self.prefetch, 10_000),
        ]) {
            if value == 0 || value > most {
                return Err((key, format!("must be at least 1, and at most {most}")));
            }
        }
        if !super::PARKED_RETRY_DELAYS.contains(&self.parked_retry_delay.0) {
            return Err((
                "parked_retry_delay",
                "must be at least 1s, and at most a day".to_owned(),
            ));
        }
        Ok(())
    }

    /// Of the bus; `says_durability` if no other part checks the server's durability.
    pub(crate) fn streams(&self, says_durability: bool) -> streams::Options {
        streams::Options {
            urls: self.urls(),
            username: self.username.clone(),
            password: self.password.clone(),
            prefix: self.prefix.clone(),
            timeout: self.timeout.0,
            lease: self.lease.0,
            max_length: self.stream_length,
            max_unconfirmed: self.max_unconfirmed,
            max_queued: self.max_queued,
            prefetch: self.prefetch,
            parked_retry_delay: self.parked_retry_delay.0,
            says_durability,
        }
    }

    /// The addresses, the first one first.
    pub fn urls(&self) -> Vec<String> {
        let first = self.url.clone().unwrap_or_else(|| {
            let host = self.host.as_deref().unwrap_or("localhost");
            format!("redis://{host}:{}/{}", self.port.unwrap_or(DEFAULT_PORT), self.db.unwrap_or(0))
        });
        std::iter::once(first)
            .chain(self.nodes.iter().map(|node| format!("redis://{node}")))
            .collect()
    }
}
