//! Foreign data under keys of the store.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tracing::error;

/// How many reported keys are remembered.
const REPORTED_MAX: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    reported: Mutex<BTreeSet<String>>,
}

impl Foreign {
    /// Logs each key once.
    pub fn found(&self, key: &str, why: &str) {
        // Nothing panics under the lock.
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() < REPORTED_MAX && reported.insert(key.to_owned()) {
            error!(key, why, "a key of the store holds foreign data; it is skipped");
        }
    }
}
