//! A bounded queue of attempts and the runners that empty it: tokio tasks whose number follows the
//! queue's depth. It decides when an attempt runs, not how: that is [`Work`].
//!
//! Most attempts end without ever waiting, so a runner polls one after the other in its own task;
//! only when an attempt waits does another runner take over the queue. Trivial steps cost neither a
//! task nor a wake-up each, and waiting ones run concurrently up to the maximum.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

use crate::executor::limits::Limits;
use crate::id::InstanceId;
use crate::machine::{AttemptFailed, Failure, Outcome, Path};
use crate::supervise;
use crate::task::{Report, Reported, Task};
use crate::telemetry::times::Times;

/// An attempt and where its reports go.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) task: Task,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) since: Instant,
}

/// Where reports of an attempt go.
#[derive(Debug, Clone)]
pub(crate) struct ReplyTo {
    instance: InstanceId,
    path: Path,
    attempt: u32,
    reports: mpsc::Sender<Report>,
}

impl Job {
    pub(crate) fn new(task: Task, reports: mpsc::Sender<Report>) -> Self {
        Self { task, reports, since: Instant::now() }
    }

    pub(crate) fn split(self) -> (Task, ReplyTo) {
        let Task { instance, path, attempt, .. } = self.task;
        (self.task, ReplyTo { instance, path, attempt, reports: self.reports })
    }

    /// Reports to the engine about the task, which stays here. `false`: the engine's queue is full.
    pub(crate) fn report(&self, what: Reported) -> bool {
        let Task { instance, path, attempt, .. } = self.task;
        self.reports.try_send(Report { instance, path, attempt, what }).is_ok()
    }

    /// Reports to the engine that the task was not dispatched; returns it if the engine's queue is
    /// full.
    pub(crate) fn refuse(self, reason: String) -> Result<(), Task> {
        let (task, reply) = self.split();
        reply
            .reports
            .try_send(reply.report(Reported::Undelivered { reason, after_ms: None }))
            .map_err(|_| task)
    }
}

impl ReplyTo {
    /// Tells the engine; waits while its queue is full.
    pub(crate) async fn send(&self, what: Reported) {
        if let Err(mpsc::error::TrySendError::Full(report)) =
            self.reports.try_send(self.report(what))
        {
            // The engine is dropped only when the process ends; the attempt is repeated after the
            // restart.
            let _ = self.reports.send(report).await;
        }
    }

    /// Tells the engine if it has room. Whether there still is an engine.
    pub(crate) fn offer(&self, what: Reported) -> bool {
        !matches!(
            self.reports.try_send(self.report(what)),
            Err(mpsc::error::TrySendError::Closed(_))
        )
    }

    fn report(&self, what: Reported) -> Report {
        Report { instance: self.instance, path: self.path, attempt: self.attempt, what }
    }
}

/// The report for an attempt that was cancelled before it started: it surely did not happen.
pub(crate) fn not_begun(task: &Task) -> Option<Reported> {
    task.cancellation.is_cancelled().then(|| Reported::Failed(cancelled()))
}

/// Of an attempt that was cancelled before it began.
pub(crate) fn cancelled() -> AttemptFailed {
    let failure = Failure::new(Failure::CANCELLED, "cancelled before it began");
    AttemptFailed { outcome: Outcome::Failed, failure, retry: Some(false), after_ms: None }
}

/// How a queue runs an attempt.
pub(crate) trait Work: Send + Sync + Sized + 'static {
    /// Runs it to its end; what it returns is reported. Calls [`RunnerPermit::release`]
    /// before it waits for anything. Must not panic.
    fn run(
        &self,
        task: Task,
        reply: &ReplyTo,
        permit: RunnerPermit<'_, Self>,
    ) -> impl Future<Output = Reported> + Send;
}

/// Counts of what a queue has done and does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) running: usize,
    pub(crate) queued: usize,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
}

impl Load {
    pub(crate) fn count(&mut self, reported: &Reported) {
        match reported {
            Reported::Completed { .. } => self.completed += 1,
            Reported::Failed(_) => self.failed += 1,
            Reported::Delivered
            | Reported::Undelivered { .. }
            | Reported::Returned
            | Reported::Began
            | Reported::Heartbeat => {}
        }
    }
}

/// The bounded queue of a step type and its runners. With `maximum: 3` and two threads, two runners
/// poll it; as soon as an attempt of one waits for an answer, that runner releases its permit and a
/// third one starts, and no fourth before an attempt ends.
pub(crate) struct TaskQueue<W> {
    pub(crate) work: W,
    pub(crate) limits: Limits,
    /// Runners that may work on the queue concurrently without waiting: more than the runtime has
    /// threads are of no use.
    parallel: usize,
    runtime: Handle,
    /// Notified when the last runner of a closed queue ends.
    quiet: Arc<Notify>,
    /// How long attempts were in the queue.
    pub(crate) waits: Times,
    state: Mutex<State>,
}

/// Invariant: while the queue is not empty, some runner is at it or the maximum is reached; so
/// the end of an attempt looks at the queue.
#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    closed: bool,
    /// Runners, waiting or not.
    running: usize,
    /// Runners that poll the queue: those whose attempt does not wait.
    polling: usize,
    completed: u64,
    failed: u64,
}

impl<W: Work> TaskQueue<W> {
    pub(crate) fn new(work: W, limits: Limits, runtime: Handle, quiet: Arc<Notify>) -> Arc<Self> {
        let parallel = runtime.metrics().num_workers().max(1);
        Arc::new(Self {
            work,
            limits,
            parallel,
            runtime,
            quiet,
            waits: Times::default(),
            state: Mutex::default(),
        })
    }

    /// Takes an attempt, or gives it back when there is no room.
    pub(crate) fn submit(self: &Arc<Self>, job: Job) -> Result<(), Job> {
        let mut state = self.lock();
        if state.closed || state.queue.len() >= self.limits.max_queued {
            return Err(job);
        }
        state.queue.push_back(job);
        self.grow(state);
        Ok(())
    }

    pub(crate) fn load(&self) -> Load {
        let state = self.lock();
        Load {
            running: state.running,
            queued: state.queue.len(),
            completed: state.completed,
            failed: state.failed,
        }
    }

    /// Takes nothing any more; what has not begun comes back.
    pub(crate) fn close(&self) -> VecDeque<Job> {
        let mut state = self.lock();
        state.closed = true;
        std::mem::take(&mut state.queue)
    }

    /// Those of the queue that are chosen, which then do not run.
    pub(crate) fn take_out(&self, is_chosen: impl Fn(&Task) -> bool) -> Vec<Job> {
        let mut state = self.lock();
        let (chosen, left): (Vec<Job>, Vec<Job>) =
            std::mem::take(&mut state.queue).into_iter().partition(|job| is_chosen(&job.task));
        state.queue = left.into();
        chosen
    }

    /// Starts a runner, if there is work for it and it may.
    fn grow(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.queue.is_empty()
            || state.polling >= self.parallel
            || state.running >= self.limits.maximum
        {
            return;
        }
        state.running += 1;
        state.polling += 1;
        drop(state);
        supervise::spawn_on(&self.runtime, "a runner of attempts", self.clone().run());
    }

    async fn run(self: Arc<Self>) {
        let mut job = self.first();
        while let Some(current) = job {
            let (task, reply) = current.split();
            let mut waits = false;
            let what =
                self.work.run(task, &reply, RunnerPermit { queue: &self, waits: &mut waits }).await;
            job = {
                let mut state = self.lock();
                let mut load = Load::default();
                load.count(&what);
                state.completed += load.completed;
                state.failed += load.failed;
                self.next(state, waits)
            };
            reply.send(what).await;
            // A runner that never waits would keep its thread from other tasks.
            tokio::task::consume_budget().await;
        }
    }

    fn first(&self) -> Option<Job> {
        self.next(self.lock(), false)
    }

    /// The next attempt for a runner; without one, the runner ends.
    fn next(&self, mut state: MutexGuard<'_, State>, waited: bool) -> Option<Job> {
        let job = state.queue.pop_front();
        if let Some(job) = &job {
            self.waits.observe(job.since.elapsed());
        }
        match (&job, waited) {
            (Some(_), true) => state.polling += 1,
            (Some(_), false) => {}
            (None, waited) => {
                state.running -= 1;
                state.polling -= usize::from(!waited);
                if state.closed && state.running == 0 {
                    self.quiet.notify_waiters();
                }
            }
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock; if it did, the counts would still be sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A runner's permission to poll the queue. An attempt that is going to wait, for an HTTP answer say,
/// releases it, and another runner takes the next attempt meanwhile.
pub(crate) struct RunnerPermit<'a, W> {
    queue: &'a Arc<TaskQueue<W>>,
    waits: &'a mut bool,
}

impl<W: Work> RunnerPermit<'_, W> {
    /// This attempt is going to wait: another runner may go on with the queue.
    pub(crate) fn release(self) {
        *self.waits = true;
        let mut state = self.queue.lock();
        state.polling -= 1;
        self.queue.grow(state);
    }
}
