//! Results, failures and heartbeats that are reported from outside.

use std::sync::atomic::Ordering;

use crate::engine::active_instance::Reply;
use crate::engine::api::{Completion, CompletionOutcome, Error, Progress, ProgressKind};
use crate::engine::inputs::{InputHandler, refusal, too_big};
use crate::engine::message::answer;
use crate::machine::{Event, Path, RejectReason, StepHappened};

impl InputHandler<'_> {
    pub(super) fn complete(&mut self, completion: Completion, reply: Reply<CompletionOutcome>) {
        let Some((path, current)) = self.find(&completion.step) else {
            return answer(reply, Err(Error::NotOpen));
        };
        if let Err(error) = self.check_step_type(&path, completion.step_type.as_deref()) {
            return answer(reply, Err(error));
        }
        let attempt = completion.attempt.unwrap_or(current);
        let sent_at = self.active.running.get(path, attempt).map(|running| running.sent_at);
        match completion.outcome {
            Ok(result) => {
                let limit = self.core.options.max_result_bytes;
                if result.get().len() > limit {
                    return answer(reply, Err(Error::Limit(too_big(&result, limit))));
                }
                match self
                    .step(path, StepHappened::Completed { attempt: completion.attempt, result })
                {
                    Ok(()) => {
                        self.tally.steps_completed += 1;
                        self.attempt_took(path, sent_at);
                        self.answer_when_durable(reply, CompletionOutcome::Accepted);
                    }
                    Err(why) => answer(reply, Err(refusal(why))),
                }
            }
            Err(failed) => {
                let decided = self.active.instance.decide(&path, attempt, failed, self.now);
                match decided.and_then(|event| self.apply(Event::Step(event))) {
                    Ok(()) => {
                        self.core.stats.attempts_failed.fetch_add(1, Ordering::Relaxed);
                        self.attempt_took(path, sent_at);
                        self.answer_when_durable(reply, CompletionOutcome::Accepted);
                    }
                    Err(RejectReason::Superseded) => {
                        answer(reply, Ok(CompletionOutcome::Superseded))
                    }
                    Err(why) => answer(reply, Err(refusal(why))),
                }
            }
        }
    }

    pub(super) fn progress(&mut self, progress: Progress, reply: Reply<()>) {
        let Some((path, current)) = self.find(&progress.step) else {
            return answer(reply, Err(Error::NotOpen));
        };
        if let Err(error) = self.check_step_type(&path, progress.step_type.as_deref()) {
            return answer(reply, Err(error));
        }
        let attempt = progress.attempt.unwrap_or(current);
        if attempt != current {
            return answer(
                reply,
                Err(Error::InvalidState("a later attempt is running".to_owned())),
            );
        }
        self.active.running.heartbeat(path, attempt, self.now);
        match progress.what {
            ProgressKind::Heartbeat => answer(reply, Ok(())),
            ProgressKind::Began => match self.step(path, StepHappened::Started { attempt }) {
                Ok(()) => self.answer_when_durable(reply, ()),
                // Reported before: nothing to add.
                Err(_) => answer(reply, Ok(())),
            },
        }
    }

    /// Whether the step is of the type that a report names, if it names one.
    fn check_step_type(&self, path: &Path, said: Option<&str>) -> Result<(), Error> {
        match (said, self.active.meta(path)) {
            (Some(said), Some(meta)) if meta.contract.step_type != said => {
                let is = meta.contract.step_type.to_owned();
                Err(Error::WrongStepType { is, said: said.to_owned() })
            }
            _ => Ok(()),
        }
    }
}
