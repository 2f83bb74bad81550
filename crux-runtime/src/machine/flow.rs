//! How control flows between scopes: a step entered or advanced stays open, is done with its result, or has failed; an event that is
//! not for it is refused and gives the state back.

use super::Failure;

/// What entering or advancing a scope of state `S` with result `T` gives.
#[derive(Debug)]
pub enum Flow<S, T> {
    Stay(S),
    Done(T),
    /// For the nearest `catch` around it that takes the name.
    Failed(Failure),
}

/// An event that changes nothing; the state is as it was.
#[derive(Debug)]
pub struct Refused<S>(pub S, pub Why);

/// Why an event changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// No such step is open.
    NotOpen,
    /// A failure of an attempt that is not the current one.
    Superseded,
    /// The event does not fulfil the `where` of the wait.
    NoMatch,
    /// The result, event or corrected input is not of the declared type; the text names the field's path.
    Invalid(String),
    /// The instance's phase does not allow it; the text says what does.
    NotNow(&'static str),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::NotOpen => f.write_str("no such step is open"),
            Why::Superseded => f.write_str("a later attempt is under way"),
            Why::NoMatch => f.write_str("the event does not fulfil the wait's condition"),
            Why::Invalid(text) => f.write_str(text),
            Why::NotNow(text) => f.write_str(text),
        }
    }
}

/// The outcome of offering an event to a scope of state `S` with result `T`.
pub type Applied<S, T> = Result<Flow<S, T>, Refused<S>>;

/// The arms of generated `apply` functions.
pub trait Then<P, T>: Sized {
    /// What the part's outcome means for the scope around it: still open → put it back beside the live values `at`; done or failed →
    /// `next`; refused → put it back and refuse.
    fn then<A, S, O>(self, at: A, stay: impl FnOnce(A, P) -> S, next: impl FnOnce(A, Result<T, Failure>) -> Flow<S, O>) -> Applied<S, O>;
}

impl<P, T> Then<P, T> for Applied<P, T> {
    fn then<A, S, O>(self, at: A, stay: impl FnOnce(A, P) -> S, next: impl FnOnce(A, Result<T, Failure>) -> Flow<S, O>) -> Applied<S, O> {
        match self {
            Ok(flow) => Ok(flow.then(at, stay, next)),
            Err(Refused(part, why)) => Err(Refused(stay(at, part), why)),
        }
    }
}

impl<P, T> Flow<P, T> {
    /// As [`Then::then`], for a part that has just been entered.
    pub fn then<A, S, O>(self, at: A, stay: impl FnOnce(A, P) -> S, next: impl FnOnce(A, Result<T, Failure>) -> Flow<S, O>) -> Flow<S, O> {
        match self {
            Flow::Stay(part) => Flow::Stay(stay(at, part)),
            Flow::Done(result) => next(at, Ok(result)),
            Flow::Failed(failure) => next(at, Err(failure)),
        }
    }
}
