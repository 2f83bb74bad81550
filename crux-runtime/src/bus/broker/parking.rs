//! Messages that cannot be handled yet because of their instance: its definition is not deployed,
//! or its journal cannot be read. Some of them wait in memory; the others are parked on the broker,
//! which redelivers them after a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::warn;

/// That messages are parked is said in the log at most so often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Bounds the messages that wait in memory for their instance. With a prefetch of 512, 128 may wait;
/// the next one is moved to `crux.parked`, where it does not keep other messages from being
/// delivered, and comes back after a minute.
#[derive(Debug)]
pub(in crate::bus) struct Parking {
    room: Arc<Semaphore>,
    /// The delay before a parked message is redelivered.
    pause: Duration,
    /// Its name on the broker.
    place: String,
    pub(in crate::bus) count: AtomicU64,
    last: Mutex<Option<Last>>,
}

/// The last message that was parked.
#[derive(Debug)]
struct Last {
    at: Instant,
    reason: String,
    said_at: Instant,
}

impl Parking {
    /// `prefetch`: how many messages may be in hand; a part of them may wait.
    pub(in crate::bus) fn new(place: String, prefetch: usize, pause: Duration) -> Self {
        let room = Arc::new(Semaphore::new((prefetch / 4).clamp(1, 1000)));
        Self { room, pause, place, count: AtomicU64::new(0), last: Mutex::default() }
    }

    /// To wait for the instance; `None`: too many do.
    pub(in crate::bus) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().try_acquire_owned().ok()
    }

    pub(in crate::bus) fn parked(&self, routing_key: &str, reason: &str) {
        let (count, now) = (self.count.fetch_add(1, Ordering::Relaxed) + 1, Instant::now());
        let mut last = self.last();
        let said_at = last
            .as_ref()
            .map(|last| last.said_at)
            .filter(|said| now.duration_since(*said) < LOG_INTERVAL);
        if said_at.is_none() {
            let (place, pause) = (&self.place, self.pause);
            warn!(
                routing_key,
                reason,
                count,
                "messages cannot be handled yet and are parked in `{place}`; each is redelivered after {pause:?}"
            );
        }
        *last = Some(Last { at: now, reason: reason.to_owned(), said_at: said_at.unwrap_or(now) });
    }

    /// A message that still cannot be handled is parked again. A problem without new messages is
    /// over.
    pub(in crate::bus) fn problem(&self) -> Option<String> {
        let last = self.last();
        let last = last.as_ref().filter(|last| last.at.elapsed() < self.pause * 2)?;
        let Self { place, pause, .. } = self;
        Some(format!(
            "messages that cannot be handled yet are parked in `{place}` and redelivered every {pause:?}: {}",
            last.reason
        ))
    }

    fn last(&self) -> MutexGuard<'_, Option<Last>> {
        // Nothing panics under the lock.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn some_may_wait_and_it_is_a_problem_until_nothing_is_parked_any_more() {
        let parking = Parking::new("crux.parked".to_owned(), 8, Duration::from_secs(60));
        let (first, second) = (parking.permit(), parking.permit());
        assert!(first.is_some() && second.is_some() && parking.permit().is_none());
        drop(first);
        assert!(parking.permit().is_some());
        assert_eq!(parking.problem(), None);
        parking.parked("step.completed", "no definition");
        assert!(parking.problem().is_some_and(|problem| problem.contains("no definition")));
        tokio::time::advance(Duration::from_secs(121)).await;
        assert_eq!(parking.problem(), None);
    }
}
