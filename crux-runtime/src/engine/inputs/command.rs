//! Commands of people: cancel, pause, resume, retry, undo, fail.

use crate::engine::active_instance::Reply;
use crate::engine::api::{Command, Error, StepRef};
use crate::engine::inputs::{InputHandler, JOURNAL_FULL, refusal};
use crate::engine::message::answer;
use crate::machine::{Cause, Event, Path};

impl InputHandler<'_> {
    pub(super) fn command(&mut self, command: Command, reply: Reply<()>) {
        if matches!(command, Command::Retry { .. })
            && self.active.journal_size.is_full(&self.core.options)
            && self.active.instance.failure().is_some_and(|failure| failure.name == JOURNAL_FULL)
        {
            let text = format!(
                "the journal is still full: {}; raise the limit first",
                self.active.journal_size.against(&self.core.options)
            );
            return answer(reply, Err(Error::InvalidState(text)));
        }
        let event = match command {
            Command::Cancel { reason } => Event::StopRequested { cause: Cause::Cancelled, reason },
            Command::Pause => Event::PauseRequested,
            Command::Resume => Event::ResumeRequested,
            Command::Undo => Event::UndoRequested,
            Command::Fail { reason } => Event::FailRequested { reason },
            Command::Retry { step, input } => {
                let step = match step {
                    None => None,
                    Some(step) => match self.find_any(&step) {
                        Some(path) => Some(path),
                        None => return answer(reply, Err(Error::UnknownStep(format!("{step}")))),
                    },
                };
                Event::RetryRequested { step, input }
            }
        };
        match self.apply(event) {
            Ok(()) => self.answer_when_durable(reply, ()),
            Err(why) => answer(reply, Err(refusal(why))),
        }
    }

    /// As [`Self::find`], also for steps of an instance that has ended: those are named by path, or
    /// found among the definition's tasks.
    fn find_any(&self, step: &StepRef) -> Option<Path> {
        if let Some((path, _)) = self.find(step) {
            return Some(path);
        }
        let definition = self.active.instance.definition();
        match step {
            StepRef::Path(text) => definition.parse_path(text),
            StepRef::Id(id) => {
                let workflow_id: crate::id::InstanceId =
                    self.active.origin.workflow_id.parse().ok()?;
                (0..u16::try_from(definition.nodes.len()).ok()?).map(Path::new).find(|path| {
                    workflow_id.step(&definition.path_text(path)) == *id
                        && definition.task(path.node).is_some()
                })
            }
        }
    }
}
