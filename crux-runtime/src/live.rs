//! Live rows: whoever follows an instance hears of each row when it is durable. Gaps are filled from the store by the follower; this only
//! says that, and what, there is news.

use std::sync::Arc;

use crate::id::InstanceId;
use crate::store::Stored;

/// Where the engine announces rows.
#[derive(Debug, Clone, Default)]
pub struct Hub {}

impl Hub {
    /// A row is durable. Called for every transition: nearly free when nobody follows.
    pub fn announce(&self, _instance: InstanceId, _row: &Arc<Stored>) {}
}
