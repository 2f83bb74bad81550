//! Answers completions of steps that are not open, from the journal.

use serde_json::value::RawValue;

use super::Core;
use crate::canonical;
use crate::engine::api::{Completion, CompletionOutcome, Error, StepRef};
use crate::id::InstanceId;
use crate::journal::{EntryType, Row};
use crate::machine::Failure;

/// The reported result, kept while the engine tries it.
pub(super) struct ReportedResult {
    result: Option<[u8; 32]>,
}

impl ReportedResult {
    pub(super) fn of(completion: &Completion) -> Self {
        Self { result: completion.outcome.as_ref().ok().map(|result| canonical::hash(result)) }
    }
}

/// The step's state in the journal: completed before (with the same result, or another), failed,
/// never open, or not there at all.
pub(super) async fn classify_from_journal(
    core: &Core,
    instance: InstanceId,
    step: &StepRef,
    reported: ReportedResult,
) -> Result<CompletionOutcome, Error> {
    let Some(record) = core.store.record(instance).await? else {
        return Err(Error::UnknownInstance(instance));
    };
    let mut after = 0;
    let mut history = StepHistory::default();
    loop {
        const PAGE_LEN: usize = 1024;
        let rows = core.store.rows(instance, after, PAGE_LEN).await?;
        for stored in &rows {
            let row = Row::parse(&stored.row).map_err(|error| {
                Error::Corrupted(Failure::new(Failure::ERROR, error.to_string()))
            })?;
            history.read(&row, instance, step);
            after = stored.seq;
        }
        if rows.len() < PAGE_LEN {
            break;
        }
    }
    match (history.result, reported.result, history.seen) {
        (Some(recorded), Some(reported), _) if recorded == reported => {
            Ok(CompletionOutcome::Duplicate)
        }
        (Some(_), Some(_), _) => {
            Err(Error::Conflict(format!("the step {step} has completed with another result")))
        }
        // A failure of an attempt after another has succeeded.
        (Some(_), None, _) => Ok(CompletionOutcome::Superseded),
        (None, None, true) if history.failed => Ok(CompletionOutcome::Duplicate),
        (None, _, true) if record.status.is_ended() => Err(Error::InvalidState(format!(
            "the instance has {}; the step {step} was not completed in time",
            record.status.word()
        ))),
        (None, _, true) => Err(Error::InvalidState(format!("the step {step} is not running"))),
        (None, _, false) if is_defined(core, &record.definition, instance, step) => {
            Err(Error::InvalidState(format!("the step {step} has not begun")))
        }
        (None, _, false) => Err(Error::UnknownStep(step.to_string())),
    }
}

/// Whether the definition has the step, though the journal does not name it yet. Of steps in loops
/// only their paths can tell.
fn is_defined(core: &Core, definition: &str, instance: InstanceId, step: &StepRef) -> bool {
    let Some(workflow) = core.app.by_hash(definition) else { return false };
    match step {
        StepRef::Path(path) => workflow.definition.parse_path(path).is_some(),
        StepRef::Id(id) => {
            workflow.definition.nodes.iter().any(|node| instance.step(node.path) == *id)
        }
    }
}

#[derive(Default)]
struct StepHistory {
    seen: bool,
    failed: bool,
    result: Option<[u8; 32]>,
}

impl StepHistory {
    fn read(&mut self, row: &Row, instance: InstanceId, step: &StepRef) {
        for entry in row.events.iter().chain(&row.out) {
            let Some(path) = &entry.path else { continue };
            let is_this = match step {
                StepRef::Path(wanted) => wanted == path,
                StepRef::Id(id) => instance.step(path) == *id,
            };
            if !is_this {
                continue;
            }
            self.seen = true;
            match entry.kind {
                EntryType::StepCompleted => {
                    self.result =
                        entry.result.as_deref().map(|result: &RawValue| canonical::hash(result))
                }
                EntryType::StepFailed if entry.next.is_none() => self.failed = true,
                _ => {}
            }
        }
    }
}
