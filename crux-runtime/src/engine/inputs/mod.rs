//! Turns inputs into journal events. An accepted input is answered once its row is durable; a
//! rejected one is answered immediately and changes nothing.

mod command;
mod completion;
mod delivery;
mod report;
mod timer;

use std::sync::atomic::Ordering;

use serde_json::value::RawValue;

use super::Core;
use crate::engine::active_instance::{ActiveInstance, Answer, Input, Reply};
use crate::engine::api::{Error, StepRef};
use crate::engine::message::{acknowledge, answer};
use crate::engine::stats::Tally;
use crate::engine::workflow_metrics::WorkflowMetrics;
use crate::machine::{
    AttemptFailed, Effects, Event, Failure, Open, Path, Phase, RejectReason, StepEvent,
    StepHappened, TaskState, Time,
};

/// Why an instance is parked whose journal has reached a limit.
const JOURNAL_FULL: &str = "JournalFull";

/// Applies inputs to one instance and collects the events, effects and answers of its next row.
struct InputHandler<'a> {
    active: &'a mut ActiveInstance,
    now: Time,
    core: &'a Core,
    tally: &'a mut Tally,
    metrics: &'a WorkflowMetrics,
    events: &'a mut Vec<Event>,
    out: &'a mut Effects,
    answers: &'a mut Vec<Answer>,
}

pub(super) fn handle(
    active: &mut ActiveInstance,
    input: Input,
    now: Time,
    core: &Core,
    tally: &mut Tally,
    metrics: &WorkflowMetrics,
    events: &mut Vec<Event>,
    out: &mut Effects,
    answers: &mut Vec<Answer>,
) {
    let mut handler = InputHandler { active, now, core, tally, metrics, events, out, answers };
    match input {
        Input::Report(report) => handler.report(report),
        Input::Wake { ack } => {
            handler.wake();
            acknowledge(ack, true);
        }
        Input::Complete { completion, reply } => handler.complete(completion, reply),
        Input::Progress { progress, reply } => handler.progress(progress, reply),
        Input::Command { command, reply } => handler.command(command, reply),
        Input::Deliver { delivery, reply } => handler.deliver(delivery, reply),
        Input::Undelivered { reply } => {
            // The receiver was dropped; ignore.
            let _ = reply.send(handler.undelivered());
        }
        Input::Park(failure) => {
            if let Err(why) = handler.apply(Event::ParkRequested { failure }) {
                tracing::debug!(%why, "only a running instance is parked");
            }
        }
    }
}

impl InputHandler<'_> {
    fn apply(&mut self, event: Event) -> Result<(), RejectReason> {
        let limit = &self.core.options;
        if !matches!(event, Event::ParkRequested { .. })
            && self.active.journal_size.is_full(limit)
            && matches!(self.active.instance.phase(), Phase::Running | Phase::Parked)
        {
            let text = format!(
                "the journal is full: {}; raise the limit and then retry",
                self.active.journal_size.against(limit)
            );
            let park = Event::ParkRequested { failure: Failure::new(JOURNAL_FULL, text) };
            // Refused where nothing goes on already.
            if self.active.instance.apply(&park, self.now, self.out).is_ok() {
                self.events.push(park);
            }
        }
        match self.active.instance.apply(&event, self.now, self.out) {
            Ok(()) => {
                self.events.push(event);
                Ok(())
            }
            Err(why) => {
                self.core.stats.refused.fetch_add(1, Ordering::Relaxed);
                Err(why)
            }
        }
    }

    fn step(&mut self, path: Path, what: StepHappened) -> Result<(), RejectReason> {
        self.apply(Event::Step(StepEvent { path, what }))
    }

    /// Answers when the row is durable.
    fn answer_when_durable<T: Send + 'static>(&mut self, reply: Reply<T>, value: T) {
        self.answers.push(Box::new(move |result| answer(reply, result.map(|()| value))));
    }

    /// Decides how the failure of an attempt continues (retry, failure, ...), and journals the
    /// decision.
    fn fail(&mut self, path: Path, attempt: u32, failed: AttemptFailed) {
        match self.active.instance.decide(&path, attempt, failed, self.now) {
            Ok(event) => {
                self.core.stats.attempts_failed.fetch_add(1, Ordering::Relaxed);
                if let Err(why) = self.apply(Event::Step(event)) {
                    tracing::error!(%why, "the state machine rejected its own decision");
                }
            }
            Err(why) => tracing::debug!(%why, "late failure ignored"),
        }
    }

    /// The open task that a message is about.
    fn find(&self, step: &StepRef) -> Option<(Path, u32)> {
        let definition = self.active.instance.definition();
        let workflow_id: crate::id::InstanceId = self.active.origin.workflow_id.parse().ok()?;
        let wanted = match step {
            StepRef::Path(text) => Some(definition.parse_path(text)?),
            StepRef::Id(_) => None,
        };
        let mut found = None;
        self.active.instance.open(&mut |open| {
            if let Open::Task(TaskState { path, number, .. }) = open {
                let matches = match (step, wanted) {
                    (_, Some(wanted)) => *path == wanted,
                    (StepRef::Id(id), None) => workflow_id.step(&definition.path_text(path)) == *id,
                    (StepRef::Path(_), None) => false,
                };
                if matches {
                    found = Some((*path, *number));
                }
            }
        });
        found
    }

    fn attempt_took(&self, path: Path, sent_at: Option<Time>) {
        if let Some(sent_at) = sent_at {
            self.metrics.attempt_took(self.active.metrics, path.node, sent_at, self.now);
        }
    }
}

fn too_big(result: &RawValue, limit: usize) -> String {
    format!(
        "the result has {} bytes, the limit is {limit}: keep big data elsewhere and pass its address",
        result.get().len()
    )
}

fn refusal(why: RejectReason) -> Error {
    match why {
        RejectReason::Invalid(text) => Error::Invalid(text),
        RejectReason::NotOpen => Error::NotOpen,
        RejectReason::Superseded | RejectReason::NoMatch => Error::InvalidState(why.to_string()),
        RejectReason::InvalidState(text) => Error::InvalidState(text.to_owned()),
    }
}
