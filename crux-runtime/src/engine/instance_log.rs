//! Log lines about instances, written once their row is durable. What an operator should look at is
//! a warning; frequent lines have their own targets, which are quiet unless `log.level` names them.
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
const SHOWN_BYTES_MAX: usize = 500;

/// Part of a row that is worth a log line.
#[derive(Debug)]
pub(crate) enum LogLine {
    Started { trigger: String },
    Completed,
    Failed(Failure),
    Cancelled(Failure),
    Stopping(Failure),
    Undoing,
    Parked(Failure),
    Paused,
    Resumed,
    Command { command: &'static str, reason: String },
    AttemptCompleted { path: Path },
    Retry { path: Path, attempt: u32, failure: Failure, next: Time },
    Lost { path: Path, attempt: u32 },
    StepFailed { path: Path, attempt: u32, failure: Failure },
}

/// The lines of a row's events and notes.
pub(super) fn lines_of(events: &[Event], notes: &[Note]) -> Vec<LogLine> {
    let mut lines = Vec::new();
    for event in events {
        match event {
            Event::Started(started) => {
                if enabled!(target: "crux::instances", Level::INFO) {
                    lines.push(LogLine::Started { trigger: started.trigger.clone() });
                }
            }
            Event::Step(event) => lines.extend(of_step(event.path, &event.what)),
            Event::StopRequested { cause: Cause::Failed, .. } | Event::ParkRequested { .. } => {}
            Event::StopRequested { cause: Cause::Cancelled, reason } => {
                lines.push(command("cancel", reason))
            }
            Event::StopRequested { cause: Cause::Deadline, reason } => {
                lines.push(command("end", reason))
            }
            Event::UndoRequested => lines.push(command("undo", "")),
            Event::FailRequested { reason } => lines.push(command("fail", reason)),
            Event::RetryRequested { .. } => lines.push(command("retry", "")),
            Event::PauseRequested | Event::ResumeRequested => {}
        }
    }
    for note in notes {
        match note {
            Note::Stopping { failure } => lines.push(LogLine::Stopping(failure.clone())),
            Note::Undoing => lines.push(LogLine::Undoing),
            Note::Parked { failure } => lines.push(LogLine::Parked(failure.clone())),
            Note::Paused => lines.push(LogLine::Paused),
            Note::Resumed => lines.push(LogLine::Resumed),
            Note::Ended(Ended::Completed { .. }) => {
                if enabled!(target: "crux::instances", Level::INFO) {
                    lines.push(LogLine::Completed);
                }
            }
            Note::Ended(Ended::Failed { failure }) => lines.push(LogLine::Failed(failure.clone())),
            Note::Ended(Ended::Cancelled { failure }) => {
                lines.push(LogLine::Cancelled(failure.clone()))
            }
            Note::StepStarted { .. }
            | Note::StepWaiting { .. }
            | Note::StepSkipped { .. }
            | Note::StepFailed { .. }
            | Note::StepCompleted { .. } => {}
        }
    }
    lines
}

fn command(command: &'static str, reason: &str) -> LogLine {
    LogLine::Command { command, reason: reason.to_owned() }
}

fn of_step(path: Path, what: &StepHappened) -> Option<LogLine> {
    match what {
        StepHappened::Completed { .. } => enabled!(target: "crux::attempts", Level::INFO)
            .then_some(LogLine::AttemptCompleted { path }),
        StepHappened::Failed { attempt, failure, next: Some(next), .. } => {
            let (attempt, failure, next) = (*attempt, failure.clone(), *next);
            enabled!(target: "crux::retries", Level::INFO).then_some(LogLine::Retry {
                path,
                attempt,
                failure,
                next,
            })
        }
        StepHappened::Failed { attempt, failure, next: None, .. } => {
            Some(LogLine::StepFailed { path, attempt: *attempt, failure: failure.clone() })
        }
        StepHappened::Lost { attempt, .. } => Some(LogLine::Lost { path, attempt: *attempt }),
        StepHappened::Started { .. }
        | StepHappened::Returned { .. }
        | StepHappened::TimerFired { .. }
        | StepHappened::Received { .. }
        | StepHappened::Retry { .. } => None,
    }
}

/// Writes a line for each.
pub(super) fn write(lines: Vec<LogLine>, definition: &'static Definition, origin: &Arc<Origin>) {
    for entry in lines {
        line(entry, definition, origin);
    }
}

fn line(entry: LogLine, definition: &'static Definition, origin: &Arc<Origin>) {
    let (workflow, instance) = (definition.workflow, origin.workflow_id.as_str());
    let request_id = clip(&origin.request_id, SHOWN_BYTES_MAX);
    let request_id = Some(&*request_id).filter(|id| !id.is_empty());
    let step = |path: &Path| definition.path_text(path);
    match entry {
        LogLine::Started { trigger } => {
            let version = definition.version;
            info!(target: "crux::instances", workflow, instance, request_id, version, trigger, "instance started");
        }
        LogLine::Completed => {
            info!(target: "crux::instances", workflow, instance, request_id, "instance completed")
        }
        LogLine::Failed(failure) => {
            let error = &*about(&failure);
            warn!(workflow, instance, request_id, error, "instance failed");
        }
        LogLine::Cancelled(failure) => {
            let error = &*about(&failure);
            info!(workflow, instance, request_id, error, "instance cancelled");
        }
        LogLine::Stopping(failure) => {
            let error = &*about(&failure);
            info!(workflow, instance, request_id, error, "instance is stopping");
        }
        LogLine::Undoing => {
            info!(workflow, instance, request_id, "instance is undoing its completed steps")
        }
        LogLine::Parked(failure) => {
            let error = &*about(&failure);
            warn!(
                workflow,
                instance,
                request_id,
                error,
                "instance parked; waiting for a person to retry, undo or fail it"
            );
        }
        LogLine::Paused => info!(workflow, instance, request_id, "instance paused"),
        LogLine::Resumed => info!(workflow, instance, request_id, "instance resumed"),
        LogLine::Command { command, reason } => {
            let reason = clip(&reason, SHOWN_BYTES_MAX);
            let reason = Some(&*reason).filter(|reason| !reason.is_empty());
            info!(workflow, instance, request_id, command, reason, "command accepted");
        }
        LogLine::AttemptCompleted { path } => {
            info!(target: "crux::attempts", workflow, instance, path = &*step(&path), "step completed");
        }
        LogLine::Retry { path, attempt, failure, next } => {
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
        LogLine::Lost { path, attempt } => {
            let path = step(&path);
            info!(
                target: "crux::retries",
                workflow, instance, request_id, path = &*path, attempt, "attempt lost with its worker; retrying"
            );
        }
        LogLine::StepFailed { path, attempt, failure } => {
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
    clip(&failure.to_string(), SHOWN_BYTES_MAX).into_owned()
}
