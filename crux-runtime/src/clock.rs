//! The clock of engine and workers: wall time that never goes back while the process lives. When the system's clock is set back, time goes on from
//! where it was; when it is set forward, time follows. Tokio's clock measures what has passed, so that tests can let it run faster.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::machine::Time;

#[derive(Debug)]
pub struct Clock {
    /// Milliseconds since 1970 at `since`.
    anchor: i64,
    since: Instant,
    /// How far the system's clock has run ahead of the anchor's.
    ahead: AtomicI64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { anchor: wall_ms(), since: Instant::now(), ahead: AtomicI64::new(0) }
    }

    pub(crate) fn now(&self) -> Time {
        let elapsed = i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX);
        let steady = self.anchor.saturating_add(elapsed);
        let ahead = wall_ms().saturating_sub(steady);
        Time(steady.saturating_add(self.ahead.fetch_max(ahead, Ordering::Relaxed).max(ahead)))
    }
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}
