//! The executor: every step struct of the app behind a queue with its own limits. This is all that
//! the engine sees of it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

use crate::executor::attempt::StepWork;
use crate::executor::limits::{Limits, Options};
use crate::executor::queue::{Job, Load, TaskQueue};
use crate::executor::step::AnyStep;
use crate::executor::step_selection::StepSelection;
use crate::executor::thread_pool::ThreadPool;
use crate::suggest::hint;
use crate::task::{Report, Reported, Task};
use crate::telemetry::times::Times;

/// Limits that make no sense for the step structs of this binary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("workers.steps.{0}: no step struct of this binary has that step type{1}")]
    UnknownStepType(String, String),
    #[error("steps: no step struct of this binary has the step type `{0}`{1}")]
    NotChosen(String, String),
    #[error("{0}: `maximum` and `max_queued` must be at least 1")]
    Nothing(String),
    #[error("{0}: `minimum` ({1}) is more than `maximum` ({2})")]
    MinimumAboveMaximum(String, usize, usize),
    #[error(
        "{0}: `minimum` counts threads, and the step struct of `{1}` is not `blocking`: leave it out"
    )]
    MinimumWithoutThreads(String, &'static str),
    #[error("two step structs are of step type `{0}`")]
    Twice(&'static str),
    #[error("step structs run on a tokio runtime, and there is none here")]
    NoRuntime,
}

/// One step type, as `GET /api/v1/workers` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    pub step_type: &'static str,
    /// Whether its attempts have their own threads.
    pub blocking: bool,
    #[serde(flatten)]
    pub limits: Limits,
    /// Attempts that run now.
    pub running: usize,
    /// Attempts that wait in the queue.
    pub queued: usize,
    /// Attempts since the start of the process.
    pub completed: u64,
    pub failed: u64,
}

/// Runs step structs; cheap to clone.
#[derive(Clone)]
pub struct Executor {
    inner: Arc<Inner>,
}

struct Inner {
    /// By step type.
    workers: Vec<StepRunner>,
    quiet: Arc<Notify>,
}

struct StepRunner {
    step_type: &'static str,
    runner: RunnerKind,
}

enum RunnerKind {
    TaskQueue(Arc<TaskQueue<StepWork>>),
    ThreadPool(Arc<ThreadPool>),
}

impl Executor {
    /// For these step structs, on the tokio runtime of the caller.
    pub fn new(steps: &[Arc<dyn AnyStep>], options: &Options) -> Result<Self, Error> {
        Self::of(steps, &StepSelection::All, options)
    }

    /// For some of these step structs.
    pub fn of(
        steps: &[Arc<dyn AnyStep>],
        selection: &StepSelection,
        options: &Options,
    ) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        check(steps, options)?;
        selection.check(steps.iter().map(|step| step.step_type()))?;
        let quiet = Arc::new(Notify::new());
        let mut workers: Vec<StepRunner> = steps
            .iter()
            .filter(|step| selection.takes(step.step_type()))
            .map(|step| {
                let (step_type, step, runtime, quiet) =
                    (step.step_type(), step.clone(), runtime.clone(), quiet.clone());
                let limits = options.limits_of(&*step);
                let runner = if step.is_blocking() {
                    RunnerKind::ThreadPool(ThreadPool::new(step, limits, runtime, quiet))
                } else {
                    RunnerKind::TaskQueue(TaskQueue::new(
                        StepWork::new(step),
                        limits,
                        runtime,
                        quiet,
                    ))
                };
                StepRunner { step_type, runner }
            })
            .collect();
        workers.sort_by_key(|worker| worker.step_type);
        Ok(Self { inner: Arc::new(Inner { workers, quiet }) })
    }

    /// Whether this process has the step struct.
    pub fn runs(&self, step_type: &str) -> bool {
        self.worker(step_type).is_some()
    }

    /// How long attempts waited for their turn, by step type.
    pub(crate) fn waits(&self) -> Vec<(&'static str, &Times)> {
        let workers = self.inner.workers.iter();
        let waits = workers.map(|worker| match &worker.runner {
            RunnerKind::TaskQueue(queue) => (worker.step_type, &queue.waits),
            RunnerKind::ThreadPool(threads) => (worker.step_type, &threads.waits),
        });
        waits.collect()
    }

    /// Takes a task without waiting, or gives it back: its queue is full, or it is draining. Its
    /// result goes to `reports`; a task whose step struct this process does not have
    /// ([`Self::runs`]) is [`Reported::Undelivered`].
    ///
    /// [`Reported::Began`] reports attempts that do not end immediately and whose contract asks for
    /// it.
    pub fn submit(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task> {
        let job = Job::new(task, reports.clone());
        let Some(worker) = self.worker(job.task.contract.step_type) else {
            let reason =
                format!("this process runs no step struct for `{}`", job.task.contract.step_type);
            return job.refuse(reason);
        };
        let submitted = match &worker.runner {
            RunnerKind::TaskQueue(queue) => queue.submit(job),
            RunnerKind::ThreadPool(threads) => threads.submit(job),
        };
        submitted.map_err(|job| job.task)
    }

    /// By step type.
    pub fn list(&self) -> Vec<Listing> {
        self.inner.workers.iter().map(StepRunner::listing).collect()
    }

    /// Takes nothing new, gives back what has not begun ([`Reported::Returned`]) and waits for what
    /// runs, `limit` at most. How many attempts are left running then: a caller that wants them to
    /// hurry fires their cancellation tokens.
    pub async fn drain(&self, limit: Duration) -> usize {
        for worker in &self.inner.workers {
            for job in worker.close() {
                let (_, reply) = job.split();
                reply.send(Reported::Returned).await;
            }
        }
        let running = || self.inner.workers.iter().map(|worker| worker.load().running).sum();
        let all_ended = async {
            loop {
                let mut quiet = std::pin::pin!(self.inner.quiet.notified());
                // From here on no end is missed; so look only now.
                quiet.as_mut().enable();
                if running() == 0 {
                    return;
                }
                quiet.await;
            }
        };
        match tokio::time::timeout(limit, all_ended).await {
            Ok(()) => 0,
            Err(_) => running(),
        }
    }

    fn worker(&self, step_type: &str) -> Option<&StepRunner> {
        let found =
            self.inner.workers.binary_search_by(|worker| worker.step_type.cmp(step_type)).ok()?;
        self.inner.workers.get(found)
    }
}

impl StepRunner {
    fn load(&self) -> Load {
        match &self.runner {
            RunnerKind::TaskQueue(queue) => queue.load(),
            RunnerKind::ThreadPool(threads) => threads.load(),
        }
    }

    fn close(&self) -> impl Iterator<Item = Job> {
        match &self.runner {
            RunnerKind::TaskQueue(queue) => queue.close(),
            RunnerKind::ThreadPool(threads) => threads.close(),
        }
        .into_iter()
    }

    fn listing(&self) -> Listing {
        let Load { running, queued, completed, failed } = self.load();
        let (blocking, limits) = match &self.runner {
            RunnerKind::TaskQueue(queue) => (false, queue.limits),
            RunnerKind::ThreadPool(threads) => (true, threads.limits),
        };
        Listing { step_type: self.step_type, blocking, limits, running, queued, completed, failed }
    }
}

fn check(steps: &[Arc<dyn AnyStep>], options: &Options) -> Result<(), Error> {
    let mut types: Vec<&'static str> = steps.iter().map(|step| step.step_type()).collect();
    types.sort_unstable();
    if let Some(twice) = types
        .windows(2)
        .find_map(|pair| (pair.first() == pair.last()).then(|| pair.first().copied()).flatten())
    {
        return Err(Error::Twice(twice));
    }
    if let Some(unknown) = options.steps.keys().find(|name| !types.contains(&name.as_str())) {
        return Err(Error::UnknownStepType(unknown.clone(), hint(unknown, types.iter().copied())));
    }
    for step in steps {
        let limits = options.limits_of(&**step);
        let setting = || options.place_of(&**step);
        if limits.maximum == 0 || limits.max_queued == 0 {
            return Err(Error::Nothing(setting()));
        }
        if limits.minimum > 0 && !step.is_blocking() {
            return Err(Error::MinimumWithoutThreads(setting(), step.step_type()));
        }
        if limits.minimum > limits.maximum {
            return Err(Error::MinimumAboveMaximum(setting(), limits.minimum, limits.maximum));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
