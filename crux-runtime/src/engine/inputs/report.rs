//! Reports of attempts: from the executor, the bus and workers.

use crate::engine::inputs::{InputHandler, too_big};
use crate::executor::queue::cancelled;
use crate::machine::{AttemptFailed, Failure, Outcome, Path, RejectReason, StepHappened};
use crate::task::{Report, Reported};

impl InputHandler<'_> {
    pub(super) fn report(&mut self, report: Report) {
        let Report { instance, path, attempt, what } = report;
        match what {
            Reported::Completed { result } => {
                self.attempt_ended(path, attempt);
                if result.get().len() > self.core.options.max_result_bytes {
                    let failure = Failure::new(
                        Failure::INVALID_RESULT,
                        too_big(&result, self.core.options.max_result_bytes),
                    );
                    return self.fail(
                        path,
                        attempt,
                        AttemptFailed {
                            outcome: Outcome::Failed,
                            failure,
                            retry: None,
                            after_ms: None,
                        },
                    );
                }
                match self.step(path, StepHappened::Completed { attempt: Some(attempt), result }) {
                    Ok(()) => self.tally.steps_completed += 1,
                    Err(RejectReason::Invalid(text)) => {
                        let failure = Failure::new(Failure::INVALID_RESULT, text);
                        self.fail(
                            path,
                            attempt,
                            AttemptFailed {
                                outcome: Outcome::Failed,
                                failure,
                                retry: None,
                                after_ms: None,
                            },
                        );
                    }
                    Err(why) => tracing::debug!(%why, "late result ignored"),
                }
            }
            Reported::Failed(failed) => {
                self.attempt_ended(path, attempt);
                self.fail(path, attempt, failed);
            }
            Reported::Delivered => self.active.delivered(path, attempt, self.now),
            Reported::Returned => self.give_back(path, attempt),
            Reported::Undelivered { reason, after_ms } => {
                let counts_as_begun =
                    self.active.meta(&path).is_some_and(|meta| self.core.counts_as_begun(meta));
                if self.core.is_closing() && counts_as_begun {
                    return self.give_back(path, attempt);
                }
                // Nobody has it, so nobody would ever say that it is over.
                if self.active.running.is_cancelled(path, attempt) {
                    self.attempt_ended(path, attempt);
                    return self.fail(path, attempt, cancelled());
                }
                self.active.running.undelivered(path, attempt);
                let (task, seed) = ((path, attempt), instance.seed());
                self.active.outbox.task_undelivered(task, &reason, after_ms, seed, self.now);
            }
            // The attempt dies with this process, and so may the knowledge that it began: not worth
            // a row.
            Reported::Began => self.active.running.began(path, attempt, self.now),
            Reported::Heartbeat => self.active.running.heartbeat(path, attempt, self.now),
        }
    }

    /// The attempt is over for who ran it.
    fn attempt_ended(&mut self, path: Path, attempt: u32) {
        let sent_at = self.active.running.ended(path, attempt);
        self.attempt_took(path, sent_at);
    }

    /// An attempt has not begun, and this process does not hand it out again.
    fn give_back(&mut self, path: Path, attempt: u32) {
        self.active.running.ended(path, attempt);
        if let Err(why) = self.step(path, StepHappened::Returned { attempt, next: self.now }) {
            tracing::debug!(%why, "returned attempt ignored");
        }
    }
}
