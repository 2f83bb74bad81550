//! The clock of engine and workers: wall time that never goes back while the process lives. When
//! the system clock is set back, time continues from where it was; when it is set forward, time
//! follows. Tokio's clock measures elapsed time, so that tests can let it run faster.
//!
//! A system clock that jumps far ahead may be wrong, if only for a second: everything due by it would
//! time out or be deleted, irrevocably. So the clock follows a large jump in growing steps. A jump
//! that is soon reverted does little harm; one that stays is caught up with within a minute, even if
//! it was ten years.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::machine::Time;
use crate::source::{Source, System};

/// The system clock is followed immediately if it is ahead by no more than this; also the first
/// step after a jump.
const STEP_MS: i64 = 5_000;
/// Between two steps, each twice as long as the one before.
const STEP_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Clock {
    /// Milliseconds since 1970 at `since`.
    anchor: i64,
    since: Instant,
    /// How far the system clock is ahead of `anchor` plus elapsed time.
    ahead: AtomicI64,
    /// How far the system clock is ahead of this one, after a jump that is still being
    /// followed.
    behind: AtomicU64,
    /// Large forward jumps of the system clock so far.
    jumps: AtomicU64,
    following: Mutex<Option<Following>>,
    source: Arc<dyn Source>,
}

/// A jump that is being followed.
#[derive(Debug)]
struct Following {
    step_ms: i64,
    next_at: Instant,
}

/// The state of the clock, for `/health` and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// How far the system clock is ahead of the engine's, after a jump that is still being
    /// followed.
    pub behind_ms: u64,
    /// Large forward jumps of the system clock so far.
    pub jumps: u64,
}

impl Clock {
    pub(crate) fn new(source: Arc<dyn Source>) -> Self {
        Self {
            anchor: source.wall_ms(),
            since: Instant::now(),
            ahead: AtomicI64::new(0),
            behind: AtomicU64::new(0),
            jumps: AtomicU64::new(0),
            following: Mutex::new(None),
            source,
        }
    }

    pub(crate) fn now(&self) -> Time {
        let elapsed = i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX);
        let steady = self.anchor.saturating_add(elapsed);
        let ahead = self.source.wall_ms().saturating_sub(steady);
        let behind = ahead.saturating_sub(self.ahead.load(Ordering::Relaxed));
        if behind > STEP_MS || self.behind.load(Ordering::Relaxed) > 0 {
            return Time(steady.saturating_add(self.follow(ahead)));
        }
        Time(steady.saturating_add(self.ahead.fetch_max(ahead, Ordering::Relaxed).max(ahead)))
    }

    pub(crate) fn state(&self) -> ClockState {
        ClockState {
            behind_ms: self.behind.load(Ordering::Relaxed),
            jumps: self.jumps.load(Ordering::Relaxed),
        }
    }

    /// How far this clock is ahead of `anchor` plus elapsed time, given that of the system clock.
    fn follow(&self, ahead: i64) -> i64 {
        // Nothing panics under the lock.
        let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let before = self.ahead.load(Ordering::Relaxed);
        let behind = ahead.saturating_sub(before);
        let step_ms = match &mut *following {
            None if behind <= STEP_MS => STEP_MS,
            None => {
                self.jumps.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    seconds = behind / 1000,
                    "the system clock jumped ahead; following it in steps in case it is wrong"
                );
                *following = Some(Following { step_ms: STEP_MS, next_at: now + STEP_INTERVAL });
                STEP_MS
            }
            Some(jump) if now >= jump.next_at => {
                *jump = Following {
                    step_ms: jump.step_ms.saturating_mul(2),
                    next_at: now + STEP_INTERVAL,
                };
                jump.step_ms
            }
            Some(_) => 0,
        };
        if behind <= step_ms.max(STEP_MS) {
            if following.take().is_some() {
                tracing::info!("the system clock has been caught up with");
            }
            self.behind.store(0, Ordering::Relaxed);
            return self.ahead.fetch_max(ahead, Ordering::Relaxed).max(ahead);
        }
        let after = before.saturating_add(step_ms);
        self.ahead.store(after, Ordering::Relaxed);
        self.behind
            .store(u64::try_from(ahead.saturating_sub(after)).unwrap_or(0), Ordering::Relaxed);
        after
    }
}

/// Whether the system clock is set: the journal holds no time before 1970.
pub(crate) fn is_set() -> bool {
    System.wall_ms() > 0
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const T0: i64 = 1_764_000_000_000;
    const YEAR_MS: i64 = 365 * 86_400_000;

    thread_local! {
        static WALL: Cell<i64> = const { Cell::new(T0) };
    }

    #[derive(Debug)]
    struct Wall;

    impl Source for Wall {
        fn wall_ms(&self) -> i64 {
            WALL.get()
        }

        fn fill(&self, _: &mut [u8]) -> Result<(), String> {
            Err("a clock needs none".to_owned())
        }
    }

    async fn pass(ms: i64) {
        tokio::time::advance(Duration::from_millis(u64::try_from(ms).expect("forward"))).await;
        WALL.set(WALL.get() + ms);
    }

    fn jump(ms: i64) {
        WALL.set(WALL.get() + ms);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_wrong_for_a_second_moves_time_by_seconds() {
        let clock = Clock::new(Arc::new(Wall));
        pass(1_000).await;
        assert_eq!(clock.now(), Time(T0 + 1_000));
        jump(10 * YEAR_MS);
        let mut last = clock.now();
        for _ in 0..10 {
            pass(100).await;
            assert!(clock.now() >= last, "time goes back");
            last = clock.now();
        }
        assert!(last.0 <= T0 + 12_000, "{last}");
        assert!(clock.state().behind_ms > 9 * YEAR_MS.unsigned_abs());
        jump(-10 * YEAR_MS);
        pass(100).await;
        assert!((T0..T0 + 12_000).contains(&clock.now().0), "{}", clock.now());
        assert_eq!(clock.state(), ClockState { behind_ms: 0, jumps: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stays_ahead_is_caught_up_with_soon_and_a_small_step_immediately() {
        let clock = Clock::new(Arc::new(Wall));
        jump(4_000);
        assert_eq!(clock.now(), Time(T0 + 4_000));
        for years in [10, 1] {
            jump(years * YEAR_MS);
            let mut seconds = 0;
            while clock.now().0 < WALL.get() {
                pass(500).await;
                seconds += 1;
                assert!(seconds < 2 * 140, "{} after {seconds} half seconds", clock.now());
            }
            assert_eq!(clock.state().behind_ms, 0);
        }
        pass(3_000).await;
        assert_eq!(clock.now(), Time(WALL.get()));
        assert_eq!(clock.state().jumps, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_does_not_hold_time_up() {
        let clock = Clock::new(Arc::new(Wall));
        jump(-3_600_000);
        pass(2_000).await;
        assert_eq!(clock.now(), Time(T0 + 2_000));
    }
}
