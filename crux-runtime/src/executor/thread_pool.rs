//! Blocking step structs: a bounded queue of attempts and the threads that empty it, between a
//! minimum and a maximum by the queue's depth. They block these threads and never those of sockets
//! or the engine.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::warn;

use super::attempt;
use crate::executor::limits::Limits;
use crate::executor::queue::{Job, Load};
use crate::executor::step::AnyStep;
use crate::telemetry::times::Times;

/// How long a thread above the minimum waits for work before it ends.
const THREAD_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct ThreadPool {
    pub(super) step: Arc<dyn AnyStep>,
    pub(super) limits: Limits,
    runtime: Handle,
    quiet: Arc<Notify>,
    /// How long attempts were in the queue.
    pub(super) waits: Times,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    closed: bool,
    threads: usize,
    /// ThreadPool that wait for work.
    idle: usize,
    completed: u64,
    failed: u64,
}

impl ThreadPool {
    pub(super) fn new(
        step: Arc<dyn AnyStep>,
        limits: Limits,
        runtime: Handle,
        quiet: Arc<Notify>,
    ) -> Arc<Self> {
        let threads = Arc::new(Self {
            step,
            limits,
            runtime,
            quiet,
            waits: Times::default(),
            state: Mutex::default(),
            work: Condvar::new(),
        });
        for _ in 0..limits.minimum {
            threads.grow(threads.lock());
        }
        threads
    }

    /// Takes an attempt, or gives it back when there is no room.
    pub(super) fn submit(self: &Arc<Self>, job: Job) -> Result<(), Job> {
        let mut state = self.lock();
        if state.closed || state.queue.len() >= self.limits.max_queued {
            return Err(job);
        }
        state.queue.push_back(job);
        if state.queue.len() > state.idle && state.threads < self.limits.maximum {
            self.grow(state);
        } else {
            drop(state);
            self.work.notify_one();
        }
        Ok(())
    }

    pub(super) fn load(&self) -> Load {
        let state = self.lock();
        let running = state.threads - state.idle;
        Load {
            running,
            queued: state.queue.len(),
            completed: state.completed,
            failed: state.failed,
        }
    }

    /// Takes nothing any more; what has not begun comes back.
    pub(super) fn close(&self) -> VecDeque<Job> {
        let mut state = self.lock();
        state.closed = true;
        self.work.notify_all();
        std::mem::take(&mut state.queue)
    }

    fn grow(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let this = self.clone();
        let name = format!("step {}", self.step.step_type());
        match std::thread::Builder::new().name(name).spawn(move || this.run()) {
            Ok(_) => state.threads += 1,
            // The task stays in the queue for the threads there are, or for the next attempt to
            // start one.
            Err(error) => {
                warn!(step_type = self.step.step_type(), %error, "cannot start another thread for the step struct")
            }
        }
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            let (task, reply) = job.split();
            self.runtime.block_on(async {
                let what = attempt::run_blocking(&*self.step, task, &reply).await;
                let mut load = Load::default();
                load.count(&what);
                {
                    let mut state = self.lock();
                    state.completed += load.completed;
                    state.failed += load.failed;
                }
                reply.send(what).await;
            });
        }
        let mut state = self.lock();
        state.threads -= 1;
        if state.closed && state.threads == 0 {
            self.quiet.notify_waiters();
        }
    }

    /// The next attempt for a thread; without one, the thread ends.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                self.waits.observe(job.since.elapsed());
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            let (woken, waited) = self
                .work
                .wait_timeout(state, THREAD_IDLE_TIMEOUT)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() && state.threads > self.limits.minimum {
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock; if it did, the counts would still be sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
