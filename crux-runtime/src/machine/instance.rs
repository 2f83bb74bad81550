//! The engine's view of an instance: one object-safe trait for every workflow, so that nothing
//! above is generic over workflows.

use super::definition::Definition;
use super::effect::Effects;
use super::event::Event;
use super::flow::RejectReason;
use super::fx::Env;
use super::part::Open;
use super::task::AttemptFailed;
use super::{Failure, Path, StepEvent, Time};

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Running,
    /// Nothing new starts; running attempts run to their end.
    Stopping,
    Undoing,
    /// Waits for a person to choose.
    Parked,
    Completed,
    Failed,
    Cancelled,
}

impl Phase {
    pub fn is_ended(self) -> bool {
        matches!(self, Phase::Completed | Phase::Failed | Phase::Cancelled)
    }
}

/// One instance, of whatever workflow. It comes into being by [`super::Event::Started`] (see
/// [`super::Run::start`]).
pub trait Instance: Send {
    fn definition(&self) -> &'static Definition;

    fn env(&self) -> &Env;

    /// Applies one event, new or replayed. Refused: state and `out` are as they were.
    fn apply(&mut self, event: &Event, now: Time, out: &mut Effects) -> Result<(), RejectReason>;

    fn phase(&self) -> Phase;

    fn is_paused(&self) -> bool;

    /// Calls `visit` for everything that can still happen: tasks, waits and timers that are not
    /// held by a pause or a stop.
    fn open(&self, visit: &mut dyn FnMut(Open<'_>));

    /// The event to journal for an attempt that did not succeed; refused if the attempt is not the
    /// current one of an open task.
    fn decide(
        &self,
        path: &Path,
        attempt: u32,
        failed: AttemptFailed,
        now: Time,
    ) -> Result<StepEvent, RejectReason>;

    /// Why the instance failed, is parked or stops.
    fn failure(&self) -> Option<&Failure>;
}
