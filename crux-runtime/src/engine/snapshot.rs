//! Everything that the engine and its parts have counted, for `/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::workflow_metrics::{self, WorkflowTotals};
use super::{ClockState, Engine};
use crate::bus::Metric;
use crate::executor;
use crate::store::{Count, InUse};
use crate::telemetry::times::{Sum, Times};

/// At one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) counters: Counters,
    /// By workflow, with its steps.
    pub(crate) workflows: BTreeMap<&'static str, WorkflowTotals>,
    /// Instances in the store that have not ended; `None`: the store did not say.
    pub(crate) instances: Option<Vec<Count>>,
    /// How long the store took to make batches of rows durable.
    pub(crate) appends: Sum,
    pub(crate) executors: Vec<executor::Listing>,
    /// How long attempts waited for their turn in this process, by step type.
    pub(crate) waits: Vec<(&'static str, Sum)>,
    pub(crate) bus: Vec<Metric>,
    pub(crate) followers: usize,
    /// Why nothing can be written to the store, if so.
    pub(crate) store_problem: Option<String>,
    /// Definitions that instances need and no live node has.
    pub(crate) missing_definitions: Vec<InUse>,
    pub(crate) clock: ClockState,
}

/// What the engine has counted since the process began, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub started: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub parked: u64,
    /// Rows made durable.
    pub transitions: u64,
    /// Times that the store turned out to have lost rows that it had answered.
    pub lost: u64,
    /// Attempts handed out.
    pub dispatched: u64,
    pub steps_completed: u64,
    pub attempts_failed: u64,
    /// Hooks and emitted events that were published.
    pub published: u64,
    /// Hooks and emitted events that could not be published yet and are being retried.
    pub unpublished: u64,
    /// Unsettled instances now.
    pub unsettled: u64,
    /// Instances in memory now.
    pub cached: u64,
    /// Starts refused because too many instances were unsettled.
    pub overloaded: u64,
    /// Messages (results, events, commands) that were refused.
    pub refused: u64,
}

impl Engine {
    /// Cheap enough to be polled.
    pub fn counters(&self) -> Counters {
        let stats = &*self.core.stats;
        let [started, completed, failed, cancelled, parked, transitions, lost, dispatched] = [
            &stats.started,
            &stats.completed,
            &stats.failed,
            &stats.cancelled,
            &stats.parked,
            &stats.transitions,
            &stats.lost,
            &stats.dispatched,
        ]
        .map(|counter| counter.load(Ordering::Relaxed));
        let [steps_completed, attempts_failed, published, unpublished] =
            [&stats.steps_completed, &stats.attempts_failed, &stats.published, &stats.unpublished]
                .map(|counter| counter.load(Ordering::Relaxed));
        let [unsettled, cached, overloaded, refused] =
            [&stats.unsettled, &stats.cached, &stats.overloaded, &stats.refused]
                .map(|counter| counter.load(Ordering::Relaxed));
        Counters {
            started,
            completed,
            failed,
            cancelled,
            parked,
            transitions,
            lost,
            dispatched,
            steps_completed,
            attempts_failed,
            published,
            unpublished,
            unsettled,
            cached,
            overloaded,
            refused,
        }
    }

    /// Counts the instances in the store, unless that was done a moment ago.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let core = &*self.core;
        core.count_instances().await;
        let waits = core.workers.waits().into_iter();
        Snapshot {
            counters: self.counters(),
            workflows: workflow_metrics::sum(&self.metrics),
            instances: core.census.known(),
            appends: sum(&core.append_times),
            executors: core.workers.list(),
            waits: waits.map(|(step_type, waits)| (step_type, sum(waits))).collect(),
            bus: core.bus.metrics(),
            followers: core.hub.followers(),
            store_problem: core.store.problem(),
            missing_definitions: core.missing.list(),
            clock: core.clock.state(),
        }
    }
}

fn sum(times: &Times) -> Sum {
    let mut sum = Sum::default();
    sum.add(times);
    sum
}
