//! The API for authors of step structs: [`Step`], its context and its errors; and the untyped
//! interface that the executor runs.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::machine::{AttemptFailed, Failure, Outcome, Raised, StepType, json};
use crate::task::Task;

/// Ties a step struct to its step type; written by `#[workflow(step = …)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a step struct",
    label = "needs `#[workflow(step = …)]`",
    note = "write `#[workflow(step = NAME)]` above the struct, NAME being the `type` of its step in pipelines/*.yaml"
)]
pub trait Contract {
    /// The generated marker `crate::pipelines::steps::<type>::Type`.
    type Type: StepType;
    /// Whether `run` blocks its thread (`#[workflow(…, blocking)]`): it then runs on its own
    /// thread.
    const BLOCKING: bool = false;
}

/// The input of the step struct `S`, from the step type's `takes`.
pub type Input<S> = <<S as Contract>::Type as StepType>::Input;
/// The result of the step struct `S`, from the step type's `returns`.
pub type Output<S> = <<S as Contract>::Type as StepType>::Output;
/// The named errors of the step struct `S`, from the step type's `raises`.
pub type Error<S> = <<S as Contract>::Type as StepType>::Error;

/// A step struct. One value serves all attempts of its step type, concurrently.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a step struct that can run",
    label = "needs `impl Step for {Self}`",
    note = "write `impl Step for {Self} {{ async fn run(&self, input: Input<Self>, cx: &StepContext) -> StepResult<Self> {{ … }} }}`"
)]
pub trait Step: Contract + Send + Sync + Sized + 'static {
    /// One attempt. The engine may call it again with the same input and [`StepContext::key`] after
    /// a failure, a timeout or a crash.
    fn run(
        &self,
        input: Input<Self>,
        cx: &StepContext,
    ) -> impl Future<Output = StepResult<Self>> + Send;
}

/// The result of `run`.
pub type StepResult<S> = Result<Output<S>, StepError<Error<S>>>;

/// One attempt's surroundings.
#[derive(Clone)]
pub struct StepContext {
    /// Whole and untouched, so that an attempt that asks for nothing pays for nothing.
    pub(super) task: Task,
}

impl StepContext {
    /// The instance's id, without prefix.
    pub fn workflow_id(&self) -> &str {
        &self.task.origin.workflow_id
    }

    pub fn workflow(&self) -> &str {
        &self.task.origin.workflow
    }

    pub fn step_type(&self) -> &'static str {
        self.task.contract.step_type
    }

    /// The step's path in the instance: `ship[3]/label`.
    pub fn path(&self) -> &str {
        &self.task.path_text
    }

    /// From 1.
    pub fn attempt(&self) -> u32 {
        self.task.attempt
    }

    /// Idempotency key: the same for every attempt of the step.
    pub fn key(&self) -> String {
        self.task.key()
    }

    /// The instance's request id; may be empty.
    pub fn request_id(&self) -> &str {
        &self.task.origin.request_id
    }

    /// W3C trace context of the start; may be empty.
    pub fn traceparent(&self) -> &str {
        &self.task.origin.traceparent
    }

    /// The instance's input as it was recorded, where the contract asks for it.
    pub fn payload(&self) -> Option<&RawValue> {
        self.task.contract.payload.then_some(&*self.task.origin.payload)
    }

    /// Whether the attempt was cancelled, timed out, or the process is shutting down. Long steps
    /// should check it from time to time.
    pub fn is_cancelled(&self) -> bool {
        self.task.cancellation.is_cancelled()
    }

    /// Ends when [`Self::is_cancelled`] becomes true.
    pub async fn cancelled(&self) {
        self.task.cancelled().await;
    }
}

/// Says which attempt it is, and nothing of what it carries: inputs may hold what does not belong
/// into logs.
impl fmt::Debug for StepContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepContext({})", self.task.task_id())
    }
}

/// Why an attempt failed, `E` being the step type's named errors. Retried as the step's `retry`
/// says, unless [`Self::terminal`].
#[derive(Debug)]
pub struct StepError<E> {
    kind: Kind<E>,
    retry: Option<bool>,
    after: Option<Duration>,
}

#[derive(Debug)]
enum Kind<E> {
    Raised(E),
    InvalidInput(String),
    Other(String),
}

impl<E> StepError<E> {
    /// One of the errors that the step type `raises`.
    pub fn raised(error: E) -> Self {
        Self { kind: Kind::Raised(error), retry: None, after: None }
    }

    /// The failure `Error` with a text.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Other(message.to_string()), retry: None, after: None }
    }

    /// The failure `InvalidInput`, which is not retried.
    pub fn invalid_input(message: impl fmt::Display) -> Self {
        Self { kind: Kind::InvalidInput(message.to_string()), retry: Some(false), after: None }
    }

    /// Another attempt would be of no use.
    pub fn terminal(mut self) -> Self {
        self.retry = Some(false);
        self
    }

    /// If it is retried: not before `after` has passed, instead of the policy's back-off.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.after = Some(after);
        self
    }
}

/// So that `?` works on whatever a step calls.
impl<E, S: std::error::Error> From<S> for StepError<E> {
    fn from(error: S) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            source = inner.source();
        }
        Self { kind: Kind::Other(text), retry: None, after: None }
    }
}

impl<E: Raised> StepError<E> {
    pub(super) fn into_failed(self) -> AttemptFailed {
        let failure = match self.kind {
            Kind::Raised(error) => error.into_failure(),
            Kind::InvalidInput(message) => Failure::new(Failure::INVALID_INPUT, message),
            Kind::Other(message) => Failure::new(Failure::ERROR, message),
        };
        let after_ms = self.after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        AttemptFailed { outcome: Outcome::Failed, failure, retry: self.retry, after_ms }
    }
}

/// A running attempt.
pub type Running<'a> =
    Pin<Box<dyn Future<Output = Result<Box<RawValue>, AttemptFailed>> + Send + 'a>>;

/// A step struct without its types.
pub trait AnyStep: Send + Sync {
    fn step_type(&self) -> &'static str;

    fn is_blocking(&self) -> bool;

    /// One attempt: from the JSON of its task's input to the result's.
    fn run<'a>(&'a self, cx: &'a StepContext) -> Running<'a>;
}

struct Typed<S>(S);

impl<S: Step> AnyStep for Typed<S> {
    fn step_type(&self) -> &'static str {
        <S::Type as StepType>::CONTRACT.step_type
    }

    fn is_blocking(&self) -> bool {
        S::BLOCKING
    }

    fn run<'a>(&'a self, cx: &'a StepContext) -> Running<'a> {
        Box::pin(async move {
            let failed = |name, text| AttemptFailed {
                outcome: Outcome::Failed,
                failure: Failure::new(name, text),
                retry: None,
                after_ms: None,
            };
            let input = json::decode(&cx.task.input)
                .map_err(|text| failed(Failure::INVALID_INPUT, text))?;
            let output = self.0.run(input, cx).await.map_err(StepError::into_failed)?;
            json::encode(&output)
                .map_err(|failure| failed(Failure::INVALID_RESULT, failure.message))
        })
    }
}

/// Forgets the types of a step struct; called by generated code.
pub fn any_step<S: Step>(step: S) -> Arc<dyn AnyStep> {
    Arc::new(Typed(step))
}
