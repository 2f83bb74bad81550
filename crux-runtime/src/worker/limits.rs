//! How many attempts of a step type may run and queue. The configuration fills [`Options`]; the worker manager checks them against the
//! step structs that it has.

use std::collections::BTreeMap;

use serde::Serialize;

/// Bounds of one step type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Threads that stay when there is nothing to do. Only for blocking step structs: the others have no threads of their own.
    pub minimum: usize,
    /// Attempts that run side by side.
    pub maximum: usize,
    /// Attempts that wait for their turn; beyond it tasks are given back to the engine.
    pub queue: usize,
}

/// Limits of all step types.
#[derive(Debug, Clone)]
pub struct Options {
    /// For step structs that are not blocking.
    pub tasks: Limits,
    /// For blocking step structs.
    pub threads: Limits,
    /// By step type, instead of the two above.
    pub by_type: BTreeMap<String, Limits>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tasks: Limits { minimum: 0, maximum: 1024, queue: 8192 },
            threads: Limits { minimum: 0, maximum: 32, queue: 8192 },
            by_type: BTreeMap::new(),
        }
    }
}
