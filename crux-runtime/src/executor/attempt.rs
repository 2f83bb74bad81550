//! One attempt of a step struct: its context, its panics, its heartbeats, and what is reported
//! of it.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tokio::task::AbortHandle;
use tracing::{Span, error_span, warn};

use super::queue;
use crate::executor::queue::{ReplyTo, RunnerPermit, Work};
use crate::executor::step::{AnyStep, Running, StepContext};
use crate::machine::{AttemptFailed, Failure, Outcome};
use crate::supervise;
use crate::task::{Reported, Task};

/// A step that is not `blocking` and keeps its thread for longer than this in one go is worth a
/// warning.
const POLL_WARNING_THRESHOLD: Duration = Duration::from_millis(100);
/// Heartbeats come this many times as often as the engine needs them: two may be late.
const HEARTBEATS_PER_TIMEOUT: u64 = 3;

/// Runs the attempts of a step struct that is not blocking.
pub(super) struct StepWork {
    step: Arc<dyn AnyStep>,
    slowness_logged: AtomicBool,
}

impl StepWork {
    pub(super) fn new(step: Arc<dyn AnyStep>) -> Self {
        Self { step, slowness_logged: AtomicBool::new(false) }
    }

    fn warn_if_slow(&self, began: Instant) {
        let took = began.elapsed();
        if took >= POLL_WARNING_THRESHOLD && !self.slowness_logged.swap(true, Ordering::Relaxed) {
            warn!(
                step_type = self.step.step_type(),
                took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "the step struct blocks a thread of the async runtime: declare it `#[workflow(step = …, blocking)]`"
            );
        }
    }
}

impl Work for StepWork {
    async fn run(&self, task: Task, reply: &ReplyTo, permit: RunnerPermit<'_, Self>) -> Reported {
        if let Some(reported) = queue::not_begun(&task) {
            return reported;
        }
        let context = StepContext { task };
        let mut running = Attempt::new(&*self.step, &context);
        let began = Instant::now();
        let first = poll_fn(|cx| Poll::Ready(running.poll(cx))).await;
        self.warn_if_slow(began);
        let outcome = match first {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                permit.release();
                let _heartbeats = start_heartbeats(&context.task, reply).await;
                poll_fn(|cx| running.poll(cx)).await
            }
        };
        reported(outcome)
    }
}

/// Runs an attempt of a blocking step struct on this thread.
pub(super) async fn run_blocking(step: &dyn AnyStep, task: Task, reply: &ReplyTo) -> Reported {
    if let Some(reported) = queue::not_begun(&task) {
        return reported;
    }
    let context = StepContext { task };
    let mut running = Attempt::new(step, &context);
    let _heartbeats = start_heartbeats(&context.task, reply).await;
    reported(poll_fn(|cx| running.poll(cx)).await)
}

/// A step's future that turns a panic into the outcome of the attempt.
struct Attempt<'a> {
    running: Running<'a>,
    /// Around whatever the step struct logs.
    span: Span,
}

impl<'a> Attempt<'a> {
    fn new(step: &'a dyn AnyStep, context: &'a StepContext) -> Self {
        // Of the highest level, so that it is there for every line that is written.
        let span = error_span!(
            target: "crux::attempts",
            "attempt",
            workflow = context.workflow(),
            instance = context.workflow_id(),
            path = context.path(),
            attempt = context.attempt()
        );
        let running = span.in_scope(|| step.run(context));
        Self { running, span }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<RawValue>, AttemptFailed>> {
        // After a panic the future is not polled again, so that its half-done state is never seen;
        // what the step struct itself shares between attempts is behind the locks of its author,
        // which are poisoned.
        match catch_unwind(AssertUnwindSafe(|| {
            self.span.in_scope(|| self.running.as_mut().poll(cx))
        })) {
            Ok(poll) => poll,
            Err(payload) => Poll::Ready(Err(panicked(&*payload))),
        }
    }
}

fn panicked(payload: &(dyn Any + Send)) -> AttemptFailed {
    let text = supervise::panic_text(payload);
    let message = text.map_or_else(
        || "the step struct panicked".to_owned(),
        |text| format!("the step struct panicked: {text}"),
    );
    AttemptFailed {
        outcome: Outcome::Failed,
        failure: Failure::new(Failure::PANIC, message),
        retry: None,
        after_ms: None,
    }
}

fn reported(outcome: Result<Box<RawValue>, AttemptFailed>) -> Reported {
    match outcome {
        Ok(result) => Reported::Completed { result },
        Err(failed) => Reported::Failed(failed),
    }
}

/// Reports that an attempt has started, and sends heartbeats until the guard is dropped. An
/// attempt that ends immediately is not reported: its result says it all.
async fn start_heartbeats(task: &Task, reply: &ReplyTo) -> Option<HeartbeatGuard> {
    if !task.contract.reports_started {
        return None;
    }
    reply.send(Reported::Began).await;
    let every = Duration::from_millis((task.policy.heartbeat_ms? / HEARTBEATS_PER_TIMEOUT).max(1));
    let reply = reply.clone();
    let beats = supervise::spawn("heartbeats of an attempt", async move {
        loop {
            tokio::time::sleep(every).await;
            // A full queue loses a beat, not the next one.
            if !reply.offer(Reported::Heartbeat) {
                return;
            }
        }
    });
    Some(HeartbeatGuard(beats.abort_handle()))
}

struct HeartbeatGuard(AbortHandle);

impl Drop for HeartbeatGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}
