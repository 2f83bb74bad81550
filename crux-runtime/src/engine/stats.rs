//! What the engine counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters, readable from any task at any time.
#[derive(Debug, Default)]
pub struct Stats {
    pub started: AtomicU64,
    pub completed: AtomicU64,
    pub failed: AtomicU64,
    pub cancelled: AtomicU64,
    pub parked: AtomicU64,
    /// Rows made durable.
    pub transitions: AtomicU64,
    /// Times that the store turned out to have lost rows that it had answered.
    pub lost: AtomicU64,
    /// Attempts handed out.
    pub dispatched: AtomicU64,
    pub steps_completed: AtomicU64,
    pub attempts_failed: AtomicU64,
    /// Hooks and emitted events that were published.
    pub published: AtomicU64,
    /// Hooks and emitted events that could not be published yet and are being retried.
    pub unpublished: AtomicU64,
    /// Unsettled instances now.
    pub unsettled: AtomicU64,
    /// Instances in memory now.
    pub cached: AtomicU64,
    /// Starts refused because too many instances were unsettled.
    pub overloaded: AtomicU64,
    /// Messages (results, events, commands) that were refused.
    pub refused: AtomicU64,
}

/// Counts of a shard's current tick. Counting each step in [`Stats`] would make the cores contend.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) transitions: u64,
    pub(super) dispatched: u64,
    pub(super) steps_completed: u64,
}

impl Tally {
    /// At the end of a round.
    pub(super) fn add_to(&mut self, stats: &Stats) {
        let Self { transitions, dispatched, steps_completed } = std::mem::take(self);
        for (counter, count) in [
            (&stats.transitions, transitions),
            (&stats.dispatched, dispatched),
            (&stats.steps_completed, steps_completed),
        ] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}
