//! What the log says of instances, once it is durable. What a person should look at is a warning;
//! what happens all the time has targets of its own, which are quiet unless `log.level` names them.
//!
//! | target | what |
//! |---|---|
//! | `crux::instances` | starts and ends |
//! | `crux::attempts` | attempts that begin and that complete |
//! | `crux::retries` | attempts that failed and are made again; on by default |

use std::sync::Arc;

use tracing::{Level, enabled, info, warn};

use crate::machine::{
    Cause, Definition, Ended, Event, Failure, Kind, Note, Path, StepHappened, Time,
};
use crate::suggest::clip;
use crate::task::Origin;

/// Texts of failures and reasons are cut off here.
const SHOWN_BYTES: usize = 500;

/// Something of a row that is worth a line.
#[derive(Debug)]
pub(crate) enum Told {
    Started { trigger: String },
    Completed,
    Failed(Failure),
    Cancelled(Failure),
    Stopping(Failure),
    Undoing,
    Parked(Failure),
    Paused,
    Resumed,
    Asked { command: &'static str, reason: String },
    AttemptCompleted { path: Path },
    Retry { path: Path, attempt: u32, failure: Failure, next: Time },
    Lost { path: Path, attempt: u32 },
    StepFailed { path: Path, attempt: u32, failure: Failure },
}

/// Of the events and notes of a row.
pub(super) fn of(events: &[Event], notes: &[Note]) -> Vec<Told> {
    let mut told = Vec::new();
    for event in events {
        match event {
            Event::Started(started) => {
                if enabled!(target: "crux::instances", Level::INFO) {
                    told.push(Told::Started { trigger: started.trigger.clone() });
                }
            }
            Event::Step(event) => told.extend(of_step(event.path, &event.what)),
            Event::StopRequested { cause: Cause::Failed, .. } | Event::ParkRequested { .. } => {}
            Event::StopRequested { cause: Cause::Cancelled, reason } => {
                told.push(asked("cancel", reason))
            }
            Event::StopRequested { cause: Cause::Deadline, reason } => {
                told.push(asked("end", reason))
            }
            Event::UndoRequested => told.push(asked("undo", "")),
            Event::FailRequested { reason } => told.push(asked("fail", reason)),
            Event::RetryRequested { .. } => told.push(asked("retry", "")),
            Event::PauseRequested | Event::ResumeRequested => {}
        }
    }
    for note in notes {
        match note {
            Note::Stopping { failure } => told.push(Told::Stopping(failure.clone())),
            Note::Undoing => told.push(Told::Undoing),
            Note::Parked { failure } => told.push(Told::Parked(failure.clone())),
            Note::Paused => told.push(Told::Paused),
            Note::Resumed => told.push(Told::Resumed),
            Note::Ended(Ended::Completed { .. }) => {
                if enabled!(target: "crux::instances", Level::INFO) {
                    told.push(Told::Completed);
                }
            }
            Note::Ended(Ended::Failed { failure }) => told.push(Told::Failed(failure.clone())),
            Note::Ended(Ended::Cancelled { failure }) => {
                told.push(Told::Cancelled(failure.clone()))
            }
            Note::StepStarted { .. }
            | Note::StepWaiting { .. }
            | Note::StepSkipped { .. }
            | Note::StepFailed { .. }
            | Note::StepCompleted { .. } => {}
        }
    }
    told
}

fn asked(command: &'static str, reason: &str) -> Told {
    Told::Asked { command, reason: reason.to_owned() }
}

fn of_step(path: Path, what: &StepHappened) -> Option<Told> {
    match what {
        StepHappened::Completed { .. } => enabled!(target: "crux::attempts", Level::INFO)
            .then_some(Told::AttemptCompleted { path }),
        StepHappened::Failed { attempt, failure, next: Some(next), .. } => {
            let (attempt, failure, next) = (*attempt, failure.clone(), *next);
            enabled!(target: "crux::retries", Level::INFO).then_some(Told::Retry {
                path,
                attempt,
                failure,
                next,
            })
        }
        StepHappened::Failed { attempt, failure, next: None, .. } => {
            Some(Told::StepFailed { path, attempt: *attempt, failure: failure.clone() })
        }
        StepHappened::Lost { attempt, .. } => Some(Told::Lost { path, attempt: *attempt }),
        StepHappened::Started { .. }
        | StepHappened::Returned { .. }
        | StepHappened::TimerFired { .. }
        | StepHappened::Received { .. }
        | StepHappened::Retry { .. } => None,
    }
}

/// Writes a line for each.
pub(super) fn write(told: Vec<Told>, definition: &'static Definition, origin: &Arc<Origin>) {
    for told in told {
        line(told, definition, origin);
    }
}

fn line(told: Told, definition: &'static Definition, origin: &Arc<Origin>) {
    let (workflow, instance) = (definition.workflow, origin.workflow_id.as_str());
    let request_id = clip(&origin.request_id, SHOWN_BYTES);
    let request_id = Some(&*request_id).filter(|id| !id.is_empty());
    let step = |path: &Path| definition.path_text(path);
    match told {
        Told::Started { trigger } => {
            let version = definition.version;
            info!(target: "crux::instances", workflow, instance, request_id, version, trigger, "instance started");
        }
        Told::Completed => {
            info!(target: "crux::instances", workflow, instance, request_id, "instance completed")
        }
        Told::Failed(failure) => {
            let error = &*about(&failure);
            warn!(workflow, instance, request_id, error, "instance failed");
        }
        Told::Cancelled(failure) => {
            let error = &*about(&failure);
            info!(workflow, instance, request_id, error, "instance cancelled");
        }
        Told::Stopping(failure) => {
            let error = &*about(&failure);
            info!(workflow, instance, request_id, error, "instance is stopping");
        }
        Told::Undoing => {
            info!(workflow, instance, request_id, "instance is undoing its completed steps")
        }
        Told::Parked(failure) => {
            let error = &*about(&failure);
            warn!(
                workflow,
                instance,
                request_id,
                error,
                "instance parked; waiting for a person to retry, undo or fail it"
            );
        }
        Told::Paused => info!(workflow, instance, request_id, "instance paused"),
        Told::Resumed => info!(workflow, instance, request_id, "instance resumed"),
        Told::Asked { command, reason } => {
            let reason = clip(&reason, SHOWN_BYTES);
            let reason = Some(&*reason).filter(|reason| !reason.is_empty());
            info!(workflow, instance, request_id, command, reason, "command accepted");
        }
        Told::AttemptCompleted { path } => {
            info!(target: "crux::attempts", workflow, instance, path = &*step(&path), "step completed");
        }
        Told::Retry { path, attempt, failure, next } => {
            let error = &*about(&failure);
            info!(
                target: "crux::retries",
                workflow,
                instance,
                request_id,
                path = &*step(&path),
                attempt,
                error,
                %next,
                "attempt failed; retrying"
            );
        }
        Told::Lost { path, attempt } => {
            let path = step(&path);
            info!(
                target: "crux::retries",
                workflow, instance, request_id, path = &*path, attempt, "attempt lost with its worker; retrying"
            );
        }
        Told::StepFailed { path, attempt, failure } => {
            let error = &*about(&failure);
            let node = definition.node(path.node);
            let path = step(&path);
            let path = &*path;
            match node {
                Some(node) if matches!(node.kind, Kind::Undo(_)) => {
                    warn!(
                        workflow,
                        instance, request_id, path, attempt, error, "undo failed for good"
                    );
                }
                Some(node) if node.caught.takes(&failure.name) => {
                    info!(
                        workflow,
                        instance,
                        request_id,
                        path,
                        attempt,
                        error,
                        "step failed for good; the workflow catches it"
                    );
                }
                _ => warn!(
                    workflow,
                    instance, request_id, path, attempt, error, "step failed for good"
                ),
            }
        }
    }
}

/// The name and the text of a failure, as long as a line may have them.
fn about(failure: &Failure) -> String {
    clip(&failure.to_string(), SHOWN_BYTES).into_owned()
}
