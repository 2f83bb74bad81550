//! What the engine counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters, readable from any task at any time; [`super::Counters`] says what each means.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) started: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) parked: AtomicU64,
    /// Rows made durable.
    pub(super) transitions: AtomicU64,
    /// Times that the store turned out to have lost rows that it had answered.
    pub(super) lost: AtomicU64,
    /// Attempts handed out.
    pub(super) dispatched: AtomicU64,
    pub(super) steps_completed: AtomicU64,
    pub(super) attempts_failed: AtomicU64,
    /// Hooks and emitted events that were published.
    pub(super) published: AtomicU64,
    /// Hooks and emitted events that could not be published yet and are being retried.
    pub(super) unpublished: AtomicU64,
    /// Unsettled instances now.
    pub(super) unsettled: AtomicU64,
    /// Instances in memory now.
    pub(super) cached: AtomicU64,
    /// Starts refused because too many instances were unsettled.
    pub(super) overloaded: AtomicU64,
    /// Messages (results, events, commands) that were refused.
    pub(super) refused: AtomicU64,
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
