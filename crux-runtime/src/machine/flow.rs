//! How control flows between scopes: a step entered or advanced stays open, is done with its
//! result, or has failed; an event that is not for it is refused and gives the state back.

use super::{Failure, Fx, Undo, Value, json};

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
    /// The result, event or corrected input is not of the declared type; the text names the field's
    /// path.
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

/// How generated code goes on: the arms of its `apply` functions, and the ends of its `enter`
/// functions. `at` are the live values beside the part `P`, `stay` the variant that holds both
/// while the part is open, `next` what comes after it, `catch` what takes its failure. `fx` is an
/// argument of the last two, so that both may use it.
pub trait Then<P, T>: Sized {
    /// A [`Flow`] or [`Applied`] of the scope around the part.
    type Around<S, O>;
    /// The same of the part, with another result.
    type Giving<V>;

    /// With what `make` makes of the result.
    fn give<V>(self, make: impl FnOnce(T) -> V) -> Self::Giving<V>;

    /// The result of a step that may not run at all.
    fn some(self) -> Self::Giving<Option<T>> {
        self.give(Some)
    }

    /// Without the result.
    fn void(self) -> Self::Giving<()> {
        self.give(drop)
    }

    /// The result of the step of that number is read after the failure of a step around it, too.
    fn keep<U: Undo>(self, node: u16, fx: &mut Fx<'_, U>) -> Self
    where
        T: Value;

    /// A failure is the scope's own.
    fn then<A, S, O, U>(
        self,
        at: A,
        stay: impl FnOnce(A, P) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, T, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O> {
        self.then_or(at, stay, fx, next, |_, failure, _| Flow::Failed(failure))
    }

    /// As [`Self::then`], where what comes next reads `up`, what is around the scope.
    fn then_in<V, A, S, O, U>(
        self,
        up: V,
        at: A,
        stay: impl FnOnce(A, P) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(V, A, T, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O> {
        self.then(at, stay, fx, |at, result, fx| next(up, at, result, fx))
    }

    /// As [`Self::then`], for a step whose result nothing reads.
    fn then_void<A, S, O, U>(
        self,
        at: A,
        stay: impl FnOnce(A, P) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O> {
        self.then(at, stay, fx, |at, _, fx| next(at, fx))
    }

    /// As [`Self::then_void`], for a step with `catch`.
    fn then_void_or<A, S, O, U>(
        self,
        at: A,
        stay: impl FnOnce(A, P) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, &mut Fx<'_, U>) -> Flow<S, O>,
        catch: impl FnOnce(A, Failure, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O> {
        self.then_or(at, stay, fx, |at, _, fx| next(at, fx), catch)
    }

    /// As [`Self::then`], for a step with `catch`.
    fn then_or<A, S, O, U>(
        self,
        at: A,
        stay: impl FnOnce(A, P) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, T, &mut Fx<'_, U>) -> Flow<S, O>,
        catch: impl FnOnce(A, Failure, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O>;
}

/// The `next` of a step whose result is that of its scope.
pub fn done<A, T, S, U>(_: A, result: T, _: &mut Fx<'_, U>) -> Flow<S, T> {
    Flow::Done(result)
}

impl<P, T> Then<P, T> for Flow<P, T> {
    type Around<S, O> = Flow<S, O>;
    type Giving<V> = Flow<P, V>;

    fn keep<U: Undo>(self, node: u16, fx: &mut Fx<'_, U>) -> Self
    where
        T: Value,
    {
        let Flow::Done(result) = self else { return self };
        match json::encode(&result) {
            Ok(text) => {
                fx.keep(&fx.path(node), &text);
                Flow::Done(result)
            }
            Err(failure) => Flow::Failed(failure),
        }
    }

    fn give<V>(self, make: impl FnOnce(T) -> V) -> Flow<P, V> {
        match self {
            Flow::Stay(part) => Flow::Stay(part),
            Flow::Done(result) => Flow::Done(make(result)),
            Flow::Failed(failure) => Flow::Failed(failure),
        }
    }

    fn then_or<A, S, O, U>(
        self,
        at: A,
        stay: impl FnOnce(A, P) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, T, &mut Fx<'_, U>) -> Flow<S, O>,
        catch: impl FnOnce(A, Failure, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Flow<S, O> {
        match self {
            Flow::Stay(part) => Flow::Stay(stay(at, part)),
            Flow::Done(result) => next(at, result, fx),
            Flow::Failed(failure) => catch(at, failure, fx),
        }
    }
}

impl<P, T> Then<P, T> for Applied<P, T> {
    type Around<S, O> = Applied<S, O>;
    type Giving<V> = Applied<P, V>;

    fn keep<U: Undo>(self, node: u16, fx: &mut Fx<'_, U>) -> Self
    where
        T: Value,
    {
        self.map(|flow| flow.keep(node, fx))
    }

    fn give<V>(self, make: impl FnOnce(T) -> V) -> Applied<P, V> {
        self.map(|flow| flow.give(make))
    }

    fn then_or<A, S, O, U>(
        self,
        at: A,
        stay: impl FnOnce(A, P) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, T, &mut Fx<'_, U>) -> Flow<S, O>,
        catch: impl FnOnce(A, Failure, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Applied<S, O> {
        match self {
            Ok(flow) => Ok(flow.then_or(at, stay, fx, next, catch)),
            Err(Refused(part, why)) => Err(Refused(stay(at, part), why)),
        }
    }
}
