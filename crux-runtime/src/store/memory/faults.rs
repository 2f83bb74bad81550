//! What can go wrong with a store, for tests and the simulator to choose.

/// The kind of call to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// One row of a batch.
    Append,
    Settle,
    /// Any other change.
    Write,
    Read,
}

/// The result of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// Done and answered.
    Done,
    /// Done, but answered as [`super::super::Error::Unavailable`]: the answer got lost.
    Unanswered,
    /// Not done, and answered as [`super::super::Error::Unavailable`].
    Lost,
    /// Not done, and answered as [`super::super::Error::Full`]. Reads are never full: they are
    /// [`CallOutcome::Lost`] then.
    Full,
}

/// Chooses. Asked once per call, and for appends once per row.
pub trait Faults: Send + Sync {
    fn outcome(&self, _call: Call) -> CallOutcome {
        CallOutcome::Done
    }

    /// How long it takes until it is done, and then until it is answered, in milliseconds of
    /// tokio's clock. For appends asked per batch.
    fn delay_ms(&self, _call: Call) -> (u64, u64) {
        (0, 0)
    }
}

/// Nothing goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}
