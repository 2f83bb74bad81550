//! The engine: the life of instances. Load, apply, append, then effects; never an effect before the append.

pub mod api;

use std::sync::Arc;

use api::{Command, Completed, Completion, Error, EventTaken, IncomingEvent, Progress, Start, Started};

use crate::app::App;
use crate::id::InstanceId;
use crate::live::Hub;
use crate::store::Store;

/// Limits and sizes; the configuration fills it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Engine tasks; instances are spread over them by hash.
    pub shards: usize,
    /// Instances with effects under way, in all: beyond it starts are refused ([`Error::Overloaded`]).
    pub max_unsettled: usize,
    /// Starts are refused while less than this is free where the store grows.
    pub min_free_bytes: u64,
    pub max_result_bytes: usize,
    pub max_journal_rows: u32,
    pub max_journal_bytes: usize,
    /// How long events are kept for waits that come later, in milliseconds.
    pub keep_events_ms: u64,
    /// How many waiting instances stay in memory.
    pub cached_instances: usize,
    /// Values of `config.NAME`.
    pub values: std::collections::BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            max_unsettled: 100_000,
            min_free_bytes: 64 << 20,
            max_result_bytes: 256 << 10,
            max_journal_rows: 10_000,
            max_journal_bytes: 16 << 20,
            keep_events_ms: 24 * 3600 * 1000,
            cached_instances: 10_000,
            values: Default::default(),
        }
    }
}

/// Counters that anybody may read at any time.
#[derive(Debug, Default)]
pub struct Stats {
    pub started: std::sync::atomic::AtomicU64,
    pub completed: std::sync::atomic::AtomicU64,
    pub failed: std::sync::atomic::AtomicU64,
    pub cancelled: std::sync::atomic::AtomicU64,
    pub parked: std::sync::atomic::AtomicU64,
    /// Rows made durable.
    pub transitions: std::sync::atomic::AtomicU64,
    /// Attempts handed out.
    pub dispatched: std::sync::atomic::AtomicU64,
    pub steps_completed: std::sync::atomic::AtomicU64,
    pub attempts_failed: std::sync::atomic::AtomicU64,
    /// Instances with effects under way now.
    pub unsettled: std::sync::atomic::AtomicU64,
    /// Instances in memory now.
    pub cached: std::sync::atomic::AtomicU64,
    /// Starts refused because too much was under way.
    pub overloaded: std::sync::atomic::AtomicU64,
    /// Messages (results, events, commands) that were refused.
    pub refused: std::sync::atomic::AtomicU64,
}

/// The engine's handle; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    app: Arc<App>,
    store: Arc<dyn Store>,
    hub: Hub,
    stats: Arc<Stats>,
    options: Options,
}

impl Engine {
    pub fn app(&self) -> &Arc<App> {
        &self.inner.app
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    pub fn stats(&self) -> &Arc<Stats> {
        &self.inner.stats
    }

    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Starts an instance; durable when answered.
    pub async fn start(&self, _start: Start) -> Result<Started, Error> {
        Err(Error::ShuttingDown)
    }

    /// Takes a result or a failure; durable when answered.
    pub async fn complete(&self, _completion: Completion) -> Result<Completed, Error> {
        Err(Error::ShuttingDown)
    }

    /// Takes a sign of life.
    pub async fn progress(&self, _progress: Progress) -> Result<(), Error> {
        Err(Error::ShuttingDown)
    }

    /// Carries out a command; durable when answered.
    pub async fn command(&self, _instance: InstanceId, _command: Command) -> Result<(), Error> {
        Err(Error::ShuttingDown)
    }

    /// Takes events; each is durable when answered, in the order given.
    pub async fn take_events(&self, _events: Vec<IncomingEvent>) -> Vec<Result<EventTaken, Error>> {
        Vec::new()
    }

    /// Why an open instance's tasks are not delivered, by the step's path (`no service listens on step.x`); empty if nothing is stuck.
    pub async fn stuck(&self, _instance: InstanceId) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Takes nothing new, waits for what is under way until `limit`, releases the rest, and closes the store.
    pub async fn shutdown(&self, _limit: std::time::Duration) {}
}
