//! Reports of workers and services about attempts, and those that are attached.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Error, Service, out_of_scope};
use crate::bus::attached::{self, AttachRequest, Attachment, Handed};
use crate::engine::api::{Completion, CompletionOutcome, Progress, ProgressKind};
use crate::ingress::caller::Caller;
use crate::ingress::operations::Operation;
use crate::ingress::problem::{Kind, Problem};

impl Service {
    /// Takes a result or a failure; durable when answered.
    pub(crate) async fn complete(
        &self,
        caller: &Caller,
        mut completion: Completion,
    ) -> Result<CompletionOutcome, Error> {
        let row = Self::authorize(caller, Operation::CompleteStep)?;
        check_step_type(caller, completion.step_type.as_deref())?;
        let Completion { instance, step, attempt, .. } = &completion;
        completion.attempt = caller.reports(*instance, step, *attempt).ok_or_else(not_its_task)?;
        self.check_visible(caller, row, completion.instance).await?;
        Ok(self.engine.complete(completion).await?)
    }

    /// Takes the news that an attempt has begun, or is alive.
    pub(crate) async fn progress(
        &self,
        caller: &Caller,
        mut progress: Progress,
    ) -> Result<(), Error> {
        let operation = match progress.what {
            ProgressKind::Began => Operation::StepStarted,
            ProgressKind::Heartbeat => Operation::StepHeartbeat,
        };
        let row = Self::authorize(caller, operation)?;
        check_step_type(caller, progress.step_type.as_deref())?;
        let Progress { instance, step, attempt, .. } = &progress;
        progress.attempt = caller.reports(*instance, step, *attempt).ok_or_else(not_its_task)?;
        self.check_visible(caller, row, progress.instance).await?;
        Ok(self.engine.progress(progress).await?)
    }

    /// Attaches a worker or a service: it gets tasks of its step types until the attachment is
    /// dropped.
    pub(crate) fn attach(
        &self,
        caller: &Caller,
        worker: AttachRequest,
    ) -> Result<(Attachment, mpsc::UnboundedReceiver<Handed>), Problem> {
        let row = Self::authorize(caller, Operation::Work)?;
        if !caller.sees_all(row) {
            let text = "the scope of this client names workflows, and over a stream come tasks of all: narrow it by `step_types` instead";
            return Err(Problem::new(Kind::Forbidden, text));
        }
        for step_type in &worker.step_types {
            check_step_type(caller, Some(step_type))?;
        }
        self.check_open()?;
        self.push.attach_worker(worker).map_err(|error| {
            let kind = match error {
                attached::Error::TooMany => Kind::Overloaded,
                attached::Error::Pushed { .. } => Kind::InvalidState,
                attached::Error::NoStepType
                | attached::Error::UnknownStepType { .. }
                | attached::Error::Concurrency(_) => Kind::InvalidRequest,
            };
            let field = match error {
                attached::Error::Concurrency(_) => "attach.concurrency",
                _ => "attach.step_types",
            };
            Problem::new(kind, error.to_string()).at(field)
        })
    }

    /// How often an attached worker says that it lives.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        self.options.heartbeat_interval
    }
}

/// Whether the scope has the step type that a report names. That it is the step's, the engine
/// checks.
fn check_step_type(caller: &Caller, step_type: Option<&str>) -> Result<(), Problem> {
    let Some(mut known) = caller.step_types() else { return Ok(()) };
    let Some(step_type) = step_type else {
        let text =
            "the scope of this client names step types: say in `step_type` of which the step is";
        return Err(Problem::new(Kind::InvalidRequest, text).at("step_type"));
    };
    if known.any(|known| known == step_type) {
        return Ok(());
    }
    Err(out_of_scope("step type", step_type, "step_types"))
}

fn not_its_task() -> Problem {
    let text = "the completion token is of another task: report about an attempt with the token that came with it";
    Problem::new(Kind::Forbidden, text)
}
