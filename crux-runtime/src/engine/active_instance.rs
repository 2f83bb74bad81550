//! One instance in memory: its state, the rows being appended, and the effects not confirmed yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{Core, Stats};
use crate::bus::broker::worker_registry::AttemptIds;
use crate::engine::api::{Command, Completion, CompletionOutcome, Error, Progress, Undelivered};
use crate::engine::idle_queue::IdleTicket;
use crate::engine::instance_log::LogLine;
use crate::engine::journal_size::JournalSize;
use crate::engine::outbox::{Outbox, Pending};
use crate::engine::running_attempts::{RunningAttempt, RunningAttempts};
use crate::engine::workflow_metrics::DefinitionIndex;
use crate::id::InstanceId;
use crate::machine;
use crate::machine::{
    Contract, Effect, Failure, Instance, Open, Path, Policy, Runs, Task, TaskState, Time, Timer,
};
use crate::store::{NewInstance, Seq, Status, Stored};
use crate::task::{Origin, Report};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Something that came for an instance.
pub(crate) enum Input {
    Complete {
        completion: Completion,
        reply: Reply<CompletionOutcome>,
    },
    Progress {
        progress: Progress,
        reply: Reply<()>,
    },
    Command {
        command: Command,
        reply: Reply<()>,
    },
    /// An event for a wait; the answer: whether it was taken.
    Deliver {
        delivery: Delivery,
        reply: Reply<bool>,
    },
    Report(Report),
    /// A timer may be due, or a restart left pending effects; `ack` gets whether the instance was
    /// loaded for it.
    Wake {
        ack: Option<oneshot::Sender<bool>>,
    },
    /// Undelivered tasks and messages, with the reasons.
    Undelivered {
        reply: oneshot::Sender<Undelivered>,
    },
    /// The engine itself gives up on going on.
    Park(Failure),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) path: String,
    pub(crate) event_id: String,
    pub(crate) data: Arc<str>,
    /// Until when instances may find the event that begin later.
    #[serde(default)]
    pub(crate) keep_until: Option<Time>,
    /// By the wait itself, for events that arrived before it.
    #[serde(default)]
    pub(crate) is_kept: bool,
}

/// An instance in memory: its state machine, and what this process knows beyond the journal. For
/// example: `order` waits for `charge`, so `instance` holds the step as sent, `running` that it was
/// dispatched 3 s ago, and `outbox` its task until the service has taken it; `timer` is the
/// earliest timeout. A crash loses all of it, and replaying the journal makes it again. Most
/// instances have one effect and one attempt: these are stored in place, because other memory is
/// rarely in the processor's caches.
pub(super) struct ActiveInstance {
    pub(super) instance: Box<dyn Instance>,
    pub(super) origin: Arc<Origin>,
    /// The last durable row.
    pub(super) seq: Seq,
    /// The time of the last row: the next is never earlier.
    pub(super) last_at: Time,
    pub(super) journal_size: JournalSize,
    pub(super) status: Option<Status>,
    /// The append in flight; at most one.
    pub(super) appending: Option<Appending>,
    /// Inputs that arrived during an append.
    pub(super) queue: VecDeque<Input>,
    /// Events for waits whose subscription is still looking for earlier events, which come first.
    pub(super) deferred_events: Vec<(Delivery, Reply<bool>)>,
    pub(super) outbox: Outbox,
    pub(super) running: RunningAttempts,
    /// The earliest active of the shard's timer heap for this instance.
    pub(super) timer: Option<Time>,
    /// Counted in `Stats::unsettled`.
    pub(super) counted: bool,
    /// Up to which row the store knows the instance as settled.
    pub(super) settled_stored: Seq,
    /// When the store will name it as due, if it does.
    pub(super) wake_stored: Option<Time>,
    /// Its place among the shard's idle instances.
    pub(super) idle_ticket: Option<IdleTicket>,
    pub(super) metrics: DefinitionIndex,
}

/// A row being appended.
pub(super) struct Appending {
    pub(super) stored: Stored,
    pub(super) token: u64,
    pub(super) at: Time,
    /// For the retry of an append whose outcome is not known.
    pub(super) start: Option<Box<NewInstance>>,
    pub(super) status: Option<Status>,
    /// How often the store could not be reached.
    pub(super) failed: u32,
    pub(super) effects: SmallVec<[Effect; 1]>,
    pub(super) answers: Vec<Answer>,
    /// For the log.
    pub(super) log_lines: Vec<LogLine>,
}

/// Called when the row is durable, or with the error if it never will be.
pub(super) type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

impl ActiveInstance {
    /// Up to which row everything is done.
    pub(super) fn settled(&self) -> Seq {
        self.outbox.settled(self.seq)
    }

    /// Keeps [`Stats::unsettled`], by which starts are admitted.
    pub(super) fn count(&mut self, unsettled: bool, stats: &Stats) {
        if self.counted != unsettled {
            self.counted = unsettled;
            if unsettled {
                stats.unsettled.fetch_add(1, Ordering::Relaxed);
            } else {
                stats.unsettled.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Nothing is on its way and nothing is left to do: whatever comes next comes from outside, or
    /// in time.
    pub(super) fn is_idle(&self) -> bool {
        self.appending.is_none() && self.queue.is_empty() && self.outbox.is_empty()
    }

    /// When something must be done if nothing comes until then.
    pub(super) fn next_due(&self, now: Time, core: &Core) -> Option<Time> {
        let mut due = self.outbox.next_due();
        let mut consider = |at: Time| due = Some(due.map_or(at, |due| due.min(at)));
        self.instance.open(&mut |open| {
            if let Some((at, _)) = self.timer_of(&open, now, core) {
                consider(at);
            }
        });
        due
    }

    fn timer_of(&self, open: &Open<'_>, now: Time, core: &Core) -> Option<(Time, Timer)> {
        match open {
            Open::Task(task) => {
                let meta = self.meta(&task.path)?;
                let running = self.running.get(task.path, task.number);
                let began_at = match running {
                    // A task that was not accepted yet does not run, however long its service is
                    // down.
                    Some(running) => running.began_at,
                    None if meta.contract.reports_started
                        || self.outbox.has_task(task.path, task.number) =>
                    {
                        None
                    }
                    // It was delivered before the instance came into memory; of when, only this is
                    // known.
                    None => Some(task.sent_at),
                };
                let heartbeat_at = running.and_then(|running| running.heartbeat_at);
                if !self.is_remote(task, meta.contract, running) {
                    return task.next_timer(meta, began_at, heartbeat_at, now);
                }
                // Its worker reported the beginning before it began; from then on it sends
                // heartbeats to all nodes.
                let begun = task.started_at.and_then(|_| self.working(task.path, task.number));
                let heartbeat_at =
                    begun.map(|working| core.last_heartbeat(&working, now)).max(heartbeat_at);
                let heartbeat_ms = begun.map(|_| core.heartbeat_ms(&meta.policy));
                let meta =
                    machine::Task { policy: Policy { heartbeat_ms, ..meta.policy }, ..*meta };
                task.next_timer(&meta, began_at, heartbeat_at, now)
            }
            Open::Wait { due, .. } => due.map(|due| (due, Timer::Timeout)),
            Open::Timer { due, timer, .. } => Some((*due, *timer)),
        }
    }

    /// Whether a worker runs the attempt. An attempt that runs in this process stays here until it
    /// has ended; which step structs this process runs may differ between nodes, and from before
    /// the restart.
    pub(super) fn is_remote(
        &self,
        task: &TaskState,
        contract: &Contract,
        running: Option<&RunningAttempt>,
    ) -> bool {
        matches!(contract.runs, Runs::Class(_))
            && match running {
                Some(running) => !running.in_process,
                None => !self.outbox.has_task(task.path, task.number),
            }
    }

    /// As workers name it.
    fn working(&self, path: Path, attempt: u32) -> Option<AttemptIds> {
        let instance: InstanceId = self.origin.workflow_id.parse().ok()?;
        let step = instance.step(&self.instance.definition().path_text(&path));
        Some(AttemptIds(instance, step, attempt))
    }

    /// Whether the journal says that a worker in another process began the attempt. Where a service
    /// may run it twice this does not count: it gets the task again.
    pub(super) fn has_begun_elsewhere(&self, path: &Path, attempt: u32) -> bool {
        let counts = self
            .meta(path)
            .is_some_and(|meta| matches!(meta.contract.runs, Runs::Class(_)) || meta.is_once());
        let mut has_begun = false;
        self.instance.open(&mut |open| {
            if let Open::Task(task) = open {
                has_begun |=
                    task.path == *path && task.number == attempt && task.started_at.is_some();
            }
        });
        counts && has_begun
    }

    /// Whether attempts are on their way which the next process would have to take for begun.
    pub(super) fn is_handing_out(&self, core: &Core) -> bool {
        self.outbox.iter().any(|what| match what {
            Pending::Task { path, .. } => {
                self.meta(path).is_some_and(|meta| core.counts_as_begun(meta))
            }
            Pending::Message { .. } | Pending::Subscription { .. } => false,
        })
    }

    /// The attempt, if it is a step struct's in another process.
    pub(super) fn working_elsewhere(&self, path: Path, attempt: u32) -> Option<AttemptIds> {
        let is_class = matches!(self.meta(&path)?.contract.runs, Runs::Class(_));
        let is_here = self.running.get(path, attempt).is_some_and(|running| running.in_process);
        if is_class && !is_here { self.working(path, attempt) } else { None }
    }

    /// Timers that are due, in the order of the definition: the step, its attempt if it is a task,
    /// and which timer.
    pub(super) fn due(&self, now: Time, core: &Core) -> Vec<(Path, u32, Timer)> {
        let mut due = Vec::new();
        self.instance.open(&mut |open| {
            if let Some((at, timer)) = self.timer_of(&open, now, core)
                && at <= now
            {
                let (path, attempt) = match open {
                    Open::Task(task) => (task.path, task.number),
                    Open::Wait { path, .. } | Open::Timer { path, .. } => (path, 0),
                };
                due.push((path, attempt, timer));
            }
        });
        due
    }

    pub(super) fn meta(&self, path: &Path) -> Option<&'static Task> {
        self.instance.definition().task(path.node)
    }

    /// Where users see it.
    pub(super) fn compute_status(&self) -> Status {
        use crate::machine::{Attempt, Phase};
        match self.instance.phase() {
            Phase::Completed => Status::Completed,
            Phase::Failed => Status::Failed,
            Phase::Cancelled => Status::Cancelled,
            Phase::Parked => Status::Parked,
            Phase::Undoing => Status::Undoing,
            Phase::Stopping => Status::Processing,
            Phase::Running if self.instance.is_paused() => Status::Paused,
            Phase::Running => {
                let (mut working, mut waiting) = (false, false);
                self.instance.open(&mut |open| match open {
                    Open::Task(task) => working |= !matches!(task.attempt, Attempt::Exhausted(_)),
                    Open::Wait { .. } => waiting = true,
                    Open::Timer { timer: Timer::Sleep, .. } => waiting = true,
                    Open::Timer { .. } => {}
                });
                if waiting && !working { Status::Waiting } else { Status::Processing }
            }
        }
    }
}
