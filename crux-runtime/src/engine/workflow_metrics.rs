//! Counters by workflow and by step. Every shard has its own, so that cores do not contend for
//! them; reading adds them up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::app::Workflow;
use crate::machine::{Definition, Event, Kind, StepEvent, StepHappened, Time};
use crate::store::Status;
use crate::telemetry::times::{Sum, Times};

/// Of one shard.
#[derive(Debug)]
pub(crate) struct WorkflowMetrics {
    /// As in the app.
    definitions: Box<[DefinitionCounters]>,
}

/// Index of the definition whose counters an instance uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DefinitionIndex(u16);

#[derive(Debug)]
struct DefinitionCounters {
    definition: &'static Definition,
    started: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    parked: AtomicU64,
    /// By the node's number; `None`: no task.
    steps: Box<[Option<StepCounters>]>,
}

#[derive(Debug, Default)]
struct StepCounters {
    attempts_failed: AtomicU64,
    failed: AtomicU64,
    attempts: Times,
}

impl WorkflowMetrics {
    pub(super) fn new(workflows: &'static [Workflow]) -> Arc<Self> {
        let definitions = workflows.iter().map(|Workflow { definition, .. }| DefinitionCounters {
            definition,
            started: AtomicU64::default(),
            completed: AtomicU64::default(),
            failed: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            parked: AtomicU64::default(),
            steps: (definition.nodes.iter())
                .map(|node| {
                    matches!(node.kind, Kind::Task(_) | Kind::Undo(_)).then(StepCounters::default)
                })
                .collect(),
        });
        Arc::new(Self { definitions: definitions.collect() })
    }

    /// Looked for once for each instance that comes into memory.
    pub(super) fn place(&self, definition: &'static Definition) -> DefinitionIndex {
        let place = self.definitions.iter().position(|of| std::ptr::eq(of.definition, definition));
        DefinitionIndex(place.and_then(|place| u16::try_from(place).ok()).unwrap_or(u16::MAX))
    }

    pub(super) fn started(&self, place: DefinitionIndex) {
        if let Some(of) = self.definitions.get(usize::from(place.0)) {
            of.started.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn changed(&self, place: DefinitionIndex, status: Status) {
        let Some(of) = self.definitions.get(usize::from(place.0)) else { return };
        let counter = match status {
            Status::Completed => &of.completed,
            Status::Failed => &of.failed,
            Status::Cancelled => &of.cancelled,
            Status::Parked => &of.parked,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt has ended, however, that this process handed out.
    pub(super) fn attempt_took(&self, place: DefinitionIndex, node: u16, sent_at: Time, now: Time) {
        if let Some(step) = self.step(place, node) {
            step.attempts.observe(Duration::from_millis(now.since_ms(sent_at)));
        }
    }

    /// Counts the failures in an event.
    pub(super) fn count(&self, place: DefinitionIndex, event: &Event) {
        let Event::Step(StepEvent { path, what }) = event else { return };
        match what {
            StepHappened::Failed { next, .. } => {
                self.attempt_failed(place, path.node, next.is_none())
            }
            StepHappened::Lost { .. } => self.attempt_failed(place, path.node, false),
            _ => {}
        }
    }

    fn attempt_failed(&self, place: DefinitionIndex, node: u16, for_good: bool) {
        if let Some(step) = self.step(place, node) {
            step.attempts_failed.fetch_add(1, Ordering::Relaxed);
            step.failed.fetch_add(u64::from(for_good), Ordering::Relaxed);
        }
    }

    fn step(&self, place: DefinitionIndex, node: u16) -> Option<&StepCounters> {
        self.definitions.get(usize::from(place.0))?.steps.get(usize::from(node))?.as_ref()
    }
}

/// Of a workflow, all its versions together.
#[derive(Debug, Default)]
pub(crate) struct WorkflowTotals {
    pub(crate) started: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) parked: u64,
    /// By the step's path without elements and rounds.
    pub(crate) steps: BTreeMap<&'static str, StepTotals>,
}

#[derive(Debug, Default)]
pub(crate) struct StepTotals {
    pub(crate) attempts_failed: u64,
    pub(crate) failed: u64,
    pub(crate) attempts: Sum,
}

/// By the workflow's name.
pub(super) fn sum(shards: &[Arc<WorkflowMetrics>]) -> BTreeMap<&'static str, WorkflowTotals> {
    let mut workflows: BTreeMap<&'static str, WorkflowTotals> = BTreeMap::new();
    for of in shards.iter().flat_map(|metrics| &metrics.definitions) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let workflow = workflows.entry(of.definition.workflow).or_default();
        workflow.started += load(&of.started);
        workflow.completed += load(&of.completed);
        workflow.failed += load(&of.failed);
        workflow.cancelled += load(&of.cancelled);
        workflow.parked += load(&of.parked);
        for (node, step) in of.definition.nodes.iter().zip(&of.steps) {
            let Some(step) = step else { continue };
            let sum = workflow.steps.entry(node.path).or_default();
            sum.attempts_failed += load(&step.attempts_failed);
            sum.failed += load(&step.failed);
            sum.attempts.add(&step.attempts);
        }
    }
    workflows
}
