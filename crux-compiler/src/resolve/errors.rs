//! The names of failures: those that Crux raises itself, and when.

/// Errors that Crux raises itself; steps and `fail` use other names.
pub const BUILT_IN: [&str; 13] = [
    "Timeout",
    "NoWorker",
    "WorkerLost",
    "OutcomeUnknown",
    "Unavailable",
    "Panic",
    "InvalidInput",
    "InvalidResult",
    "ExpressionError",
    "ChildFailed",
    "RepeatExhausted",
    "Cancelled",
    "Error",
];

pub fn is_built_in(name: &str) -> bool {
    BUILT_IN.contains(&name)
}
