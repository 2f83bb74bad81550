//! How control flows between scopes: a step entered or advanced stays open, is done with its
//! result, or has failed; an event that is not for it is refused and gives the state back.

use super::{Failure, Fx, Undo, Value, json};

/// The result of entering or advancing a scope of state `S` with result `T`.
#[derive(Debug)]
pub enum Flow<S, T> {
    Stay(S),
    Done(T),
    /// For the nearest `catch` around it that takes the name.
    Failed(Failure),
}

/// An event that changes nothing; the state is as it was.
#[derive(Debug)]
pub struct Refused<S>(pub S, pub RejectReason);

/// Why an event was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RejectReason {
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
    InvalidState(&'static str),
}

impl std::fmt::Display for RejectReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RejectReason::NotOpen => f.write_str("no such step is open"),
            RejectReason::Superseded => f.write_str("a later attempt is running"),
            RejectReason::NoMatch => f.write_str("the event does not fulfil the wait's condition"),
            RejectReason::Invalid(text) => f.write_str(text),
            RejectReason::InvalidState(text) => f.write_str(text),
        }
    }
}

/// The outcome of offering an event to a scope of state `S` with result `T`.
pub type Applied<S, T> = Result<Flow<S, T>, Refused<S>>;

/// How generated code goes on: the arms of its `apply` functions, and the ends of its `enter`
/// functions. `stay` is the variant that holds the part while it is open, `next` what comes after
/// it, `catch` what takes its failure; where values are live beside the part, [`Then::with`] gives
/// them to each of these. `fx` is an argument of the last two, so that both may use it.
///
/// ```text
/// part.apply(event, fx).with(at).then(State::Notify, fx, enter_finalize)
/// ```
pub trait Then: Sized {
    /// The part that may stay open.
    type Part;
    /// What it gives when it is done.
    type Result;
    /// A [`Flow`] or [`Applied`] of the scope around the part.
    type Around<S, O>;
    /// The same of the part, with another result.
    type Giving<V>;

    /// With what `make` makes of the result.
    fn map_done<V>(self, make: impl FnOnce(Self::Result) -> V) -> Self::Giving<V>;

    /// The result of a step that may not run at all.
    fn optional(self) -> Self::Giving<Option<Self::Result>> {
        self.map_done(Some)
    }

    /// Without the result.
    fn discard(self) -> Self::Giving<()> {
        self.map_done(drop)
    }

    /// The result of the step of that number is read after the failure of a step around it, too.
    fn keep<U: Undo>(self, node: u16, fx: &mut Fx<'_, U>) -> Self
    where
        Self::Result: Value;

    /// Beside these live values.
    fn with<A>(self, at: A) -> With<Self, A> {
        With { flow: self, at }
    }

    /// Everything that the other methods are made of.
    fn go_on<A, S, O, U>(
        self,
        at: A,
        stay: impl FnOnce(A, Self::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, Self::Result, &mut Fx<'_, U>) -> Flow<S, O>,
        catch: impl FnOnce(A, Failure, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O>;

    /// A failure is the scope's own.
    fn then<S, O, U>(
        self,
        stay: impl FnOnce(Self::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(Self::Result, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O> {
        self.then_or(stay, fx, next, |failure, _| Flow::Failed(failure))
    }

    /// As [`Self::then`], for a step with `catch`.
    fn then_or<S, O, U>(
        self,
        stay: impl FnOnce(Self::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(Self::Result, &mut Fx<'_, U>) -> Flow<S, O>,
        catch: impl FnOnce(Failure, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O> {
        self.go_on(
            (),
            |(), part| stay(part),
            fx,
            |(), result, fx| next(result, fx),
            |(), failure, fx| catch(failure, fx),
        )
    }

    /// As [`Self::then`], where what comes next reads `up`, what is around the scope.
    fn then_in<V, S, O, U>(
        self,
        up: V,
        stay: impl FnOnce(Self::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(V, Self::Result, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O> {
        self.then(stay, fx, |result, fx| next(up, result, fx))
    }

    /// As [`Self::then`], for a step whose result nothing reads.
    fn then_discard<S, O, U>(
        self,
        stay: impl FnOnce(Self::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(&mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O> {
        self.then(stay, fx, |_, fx| next(fx))
    }

    /// As [`Self::then_discard`], for a step with `catch`.
    fn then_discard_or<S, O, U>(
        self,
        stay: impl FnOnce(Self::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(&mut Fx<'_, U>) -> Flow<S, O>,
        catch: impl FnOnce(Failure, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Self::Around<S, O> {
        self.then_or(stay, fx, |_, fx| next(fx), catch)
    }

    /// The result is that of the scope.
    fn finish<S>(self, stay: impl FnOnce(Self::Part) -> S) -> Self::Around<S, Self::Result>;

    /// As [`Self::finish`], for a step with `catch`.
    fn finish_or<S, U>(
        self,
        stay: impl FnOnce(Self::Part) -> S,
        fx: &mut Fx<'_, U>,
        catch: impl FnOnce(Failure, &mut Fx<'_, U>) -> Flow<S, Self::Result>,
    ) -> Self::Around<S, Self::Result> {
        self.then_or(stay, fx, |result, _| Flow::Done(result), catch)
    }
}

/// A part's outcome beside the live values of its step: the methods of [`Then`], in which `stay`,
/// `next` and `catch` take those first.
#[derive(Debug)]
pub struct With<F, A> {
    flow: F,
    at: A,
}

impl<F: Then, A> With<F, A> {
    pub fn then<S, O, U>(
        self,
        stay: impl FnOnce(A, F::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, F::Result, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> F::Around<S, O> {
        self.then_or(stay, fx, next, |_, failure, _| Flow::Failed(failure))
    }

    pub fn then_or<S, O, U>(
        self,
        stay: impl FnOnce(A, F::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, F::Result, &mut Fx<'_, U>) -> Flow<S, O>,
        catch: impl FnOnce(A, Failure, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> F::Around<S, O> {
        self.flow.go_on(self.at, stay, fx, next, catch)
    }

    pub fn then_in<V, S, O, U>(
        self,
        up: V,
        stay: impl FnOnce(A, F::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(V, A, F::Result, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> F::Around<S, O> {
        self.then(stay, fx, |at, result, fx| next(up, at, result, fx))
    }

    pub fn then_discard<S, O, U>(
        self,
        stay: impl FnOnce(A, F::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> F::Around<S, O> {
        self.then(stay, fx, |at, _, fx| next(at, fx))
    }

    pub fn then_discard_or<S, O, U>(
        self,
        stay: impl FnOnce(A, F::Part) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, &mut Fx<'_, U>) -> Flow<S, O>,
        catch: impl FnOnce(A, Failure, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> F::Around<S, O> {
        self.then_or(stay, fx, |at, _, fx| next(at, fx), catch)
    }

    pub fn finish<S>(self, stay: impl FnOnce(A, F::Part) -> S) -> F::Around<S, F::Result> {
        let Self { flow, at } = self;
        flow.finish(|part| stay(at, part))
    }

    pub fn finish_or<S, U>(
        self,
        stay: impl FnOnce(A, F::Part) -> S,
        fx: &mut Fx<'_, U>,
        catch: impl FnOnce(A, Failure, &mut Fx<'_, U>) -> Flow<S, F::Result>,
    ) -> F::Around<S, F::Result> {
        self.then_or(stay, fx, |_, result, _| Flow::Done(result), catch)
    }
}

impl<P, T> Then for Flow<P, T> {
    type Part = P;
    type Result = T;
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

    fn map_done<V>(self, make: impl FnOnce(T) -> V) -> Flow<P, V> {
        match self {
            Flow::Stay(part) => Flow::Stay(part),
            Flow::Done(result) => Flow::Done(make(result)),
            Flow::Failed(failure) => Flow::Failed(failure),
        }
    }

    fn finish<S>(self, stay: impl FnOnce(P) -> S) -> Flow<S, T> {
        match self {
            Flow::Stay(part) => Flow::Stay(stay(part)),
            Flow::Done(result) => Flow::Done(result),
            Flow::Failed(failure) => Flow::Failed(failure),
        }
    }

    fn go_on<A, S, O, U>(
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

impl<P, T> Then for Applied<P, T> {
    type Part = P;
    type Result = T;
    type Around<S, O> = Applied<S, O>;
    type Giving<V> = Applied<P, V>;

    fn keep<U: Undo>(self, node: u16, fx: &mut Fx<'_, U>) -> Self
    where
        T: Value,
    {
        self.map(|flow| flow.keep(node, fx))
    }

    fn map_done<V>(self, make: impl FnOnce(T) -> V) -> Applied<P, V> {
        self.map(|flow| flow.map_done(make))
    }

    fn finish<S>(self, stay: impl FnOnce(P) -> S) -> Applied<S, T> {
        match self {
            Ok(flow) => Ok(flow.finish(stay)),
            Err(Refused(part, why)) => Err(Refused(stay(part), why)),
        }
    }

    fn go_on<A, S, O, U>(
        self,
        at: A,
        stay: impl FnOnce(A, P) -> S,
        fx: &mut Fx<'_, U>,
        next: impl FnOnce(A, T, &mut Fx<'_, U>) -> Flow<S, O>,
        catch: impl FnOnce(A, Failure, &mut Fx<'_, U>) -> Flow<S, O>,
    ) -> Applied<S, O> {
        match self {
            Ok(flow) => Ok(flow.go_on(at, stay, fx, next, catch)),
            Err(Refused(part, why)) => Err(Refused(stay(at, part), why)),
        }
    }
}
