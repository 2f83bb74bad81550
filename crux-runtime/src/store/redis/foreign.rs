//! Foreign data under keys of the store.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tracing::error;

/// So many keys are remembered as having been told of.
const REPORTED_MAX: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    told: Mutex<BTreeSet<String>>,
}

impl Foreign {
    /// Said once of each key.
    pub fn found(&self, key: &str, why: &str) {
        // Nothing panics under the lock.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < REPORTED_MAX && told.insert(key.to_owned()) {
            error!(key, why, "a key of the store holds foreign data; it is skipped");
        }
    }
}
