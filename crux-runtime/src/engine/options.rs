//! Limits and sizes of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::source::{Source, System};
use crate::token::TokenSigner;

/// Limits and sizes; the configuration fills it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Engine tasks; instances are spread over them by hash.
    pub shards: usize,
    /// Unsettled instances in all: beyond it starts are refused ([`super::Error::Overloaded`]).
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
    /// Heartbeat timeout of workers in other processes, unless the step sets `heartbeat`.
    pub heartbeat_timeout_ms: u64,
    /// Signs the tokens of tasks.
    pub tokens: Option<Arc<TokenSigner>>,
    /// Values of `config.NAME`.
    pub values: BTreeMap<String, String>,
    /// Where time and randomness come from.
    pub source: Arc<dyn Source>,
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
            heartbeat_timeout_ms: 30_000,
            tokens: None,
            values: Default::default(),
            source: Arc::new(System),
        }
    }
}
