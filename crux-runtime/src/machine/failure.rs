//! Why a step or an instance failed: a name that `catch` and `retry` know, and a text for people.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A failure by its name. Names of steps' own errors come from `raises`; the built-in ones are the
/// constants here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub name: Cow<'static, str>,
    pub message: String,
}

macro_rules! built_in {
    ($($constant:ident = $name:literal, $doc:literal;)*) => {
        impl Failure {
            $(#[doc = $doc] pub const $constant: &'static str = $name;)*
            /// Every built-in name.
            pub const BUILT_IN: &'static [&'static str] = &[$($name),*];
        }
    };
}

built_in! {
    TIMEOUT = "Timeout", "The timeout of a step, a group or a wait passed.";
    NO_WORKER = "NoWorker", "Nothing that could run the step took it within its `queue` timeout.";
    WORKER_LOST = "WorkerLost", "The worker died with the task, more often than is repaired in silence.";
    OUTCOME_UNKNOWN = "OutcomeUnknown", "A `once` step without key was lost or timed out: whether it happened is not known.";
    UNAVAILABLE = "Unavailable", "The service answered that it cannot work now.";
    PANIC = "Panic", "The step struct panicked.";
    INVALID_INPUT = "InvalidInput", "The step refused its input.";
    INVALID_RESULT = "InvalidResult", "The result is not of the contract's type.";
    EXPRESSION_ERROR = "ExpressionError", "An expression overflowed, divided by zero or found no text for a value.";
    CHILD_FAILED = "ChildFailed", "A child instance failed.";
    REPEAT_EXHAUSTED = "RepeatExhausted", "`max` rounds have passed and `until` does not hold.";
    CANCELLED = "Cancelled", "The instance was cancelled.";
    ERROR = "Error", "A plain text from a service.";
}

impl Failure {
    pub fn new(name: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { name: name.into(), message: message.into() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A failed expression of a step.
    pub fn expression(message: impl Into<String>) -> Self {
        Self::new(Self::EXPRESSION_ERROR, message)
    }
}

/// `Name: message`, as people read it in documents and logs; a plain text alone.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name == Self::ERROR {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.name, self.message)
        }
    }
}
