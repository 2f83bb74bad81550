//! Timers that are due: retries, timeouts, sleeps and deadlines.

use crate::engine::inputs::InputHandler;
use crate::machine::{
    AttemptFailed, Cause, Event, Failure, Outcome, Path, StepEvent, StepHappened, Timer,
};

impl InputHandler<'_> {
    pub(super) fn wake(&mut self) {
        for (path, attempt, timer) in self.active.due(self.now, self.core) {
            match timer {
                Timer::Queue | Timer::Run | Timer::Heartbeat | Timer::Total => {
                    self.time_out(path, attempt, timer)
                }
                Timer::Deadline => {
                    let reason = "the workflow's deadline passed".to_owned();
                    self.apply_due(Event::StopRequested { cause: Cause::Deadline, reason });
                }
                // It would only be given back again.
                Timer::Retry if self.core.is_closing() => {}
                Timer::Retry | Timer::Sleep | Timer::Timeout => {
                    self.apply_due(Event::Step(StepEvent {
                        path,
                        what: StepHappened::TimerFired { timer },
                    }));
                }
            }
        }
    }

    /// A timer was due a moment ago; one that fired before it may have made it void.
    fn apply_due(&mut self, event: Event) {
        if let Err(why) = self.apply(event) {
            tracing::debug!(%why, "timer superseded");
        }
    }

    fn time_out(&mut self, path: Path, attempt: u32, timer: Timer) {
        let (name, text) = match timer {
            Timer::Queue => {
                (Failure::NO_WORKER, "no worker started the task within its `queue` timeout")
            }
            Timer::Heartbeat => (
                Failure::WORKER_LOST,
                "the worker sent no heartbeat within its `heartbeat` timeout",
            ),
            Timer::Total => {
                (Failure::TIMEOUT, "all attempts together took longer than the `total` timeout")
            }
            _ => (Failure::TIMEOUT, "the attempt ran longer than its timeout"),
        };
        // The attempt goes on if it does not listen, and its result still counts; it only is no
        // longer waited for.
        self.active.running.cancel(path, attempt);
        // A worker that sends no heartbeats cannot be asked to cancel; and its attempt is
        // dispatched again under the same number.
        if timer != Timer::Heartbeat
            && let Some(working) = self.active.working_elsewhere(path, attempt)
        {
            self.core.bus.cancel(working);
        }
        let retry = (timer == Timer::Total).then_some(false);
        self.fail(
            path,
            attempt,
            AttemptFailed {
                outcome: Outcome::Unknown,
                failure: Failure::new(name, text),
                retry,
                after_ms: None,
            },
        );
    }
}
