//! Retry delays with exponential backoff and jitter, so that clients which failed together do not
//! retry together. There is one limit per reason to wait.

use std::time::Duration;

/// Pauses that double from the first to the longest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    first: Duration,
    longest: Duration,
}

/// The store is away. Instances wait until it is back, usually within seconds, and a try
/// costs one request.
pub(crate) const STORE: Pauses = Pauses::new(Duration::from_millis(50), Duration::from_secs(2));

/// An event finds its instance or the engine busy, overloaded or without its store. What it waits
/// for may take long, and thousands of events may wait.
pub(crate) const EVENT: Pauses = Pauses::new(Duration::from_millis(50), Duration::from_secs(10));

/// A service or subscriber does not take a task or message. It may be down for hours, and a try
/// costs it a request; where the bus notices that it is back, the delay is cut short.
pub(crate) const DELIVERY: Pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(60));

/// No connection to the broker. All nodes try, and nothing else gets through meanwhile.
const BROKER: Pauses = Pauses::new(Duration::from_millis(250), Duration::from_secs(15));

impl Pauses {
    const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The pause after a try that failed, when `failed` others had failed before it. Between half of
    /// the whole pause and all of it, the same for the same `seed`: what is simulated can be
    /// repeated.
    pub(crate) fn after(self, failed: u32, seed: u64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failed.min(20));
        let half = doubled.min(self.longest) / 2;
        // The last step of SplitMix64: the high bits of neighbouring seeds differ.
        let mut mixed = seed ^ u64::from(failed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [.., part] = (mixed ^ (mixed >> 31)).to_le_bytes();
        half + half * u32::from(part) / 255
    }
}

/// The tries of one thing, and the pause before the next.
#[derive(Debug)]
pub(crate) struct Backoff {
    pauses: Pauses,
    seed: u64,
    failed: u32,
}

impl Backoff {
    /// For connections to a broker.
    pub(crate) fn new() -> Self {
        Self::up_to(BROKER.longest)
    }

    /// For connections, with another limit.
    pub(crate) fn up_to(longest: Duration) -> Self {
        let mut seed = [0; 8];
        // Without randomness nodes may try together.
        let _ = getrandom::fill(&mut seed);
        Self::of(Pauses::new(BROKER.first, longest), u64::from_le_bytes(seed))
    }

    /// `seed` identifies whose retries these are, for the jitter.
    pub(crate) fn of(pauses: Pauses, seed: u64) -> Self {
        Self { pauses, seed, failed: 0 }
    }

    /// A try succeeded: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.failed = 0;
    }

    /// How long to wait after a try that failed.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.pauses.after(self.failed, self.seed);
        self.failed = self.failed.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        for pauses in [STORE, EVENT, DELIVERY, BROKER] {
            let mut backoff = Backoff::of(pauses, 7);
            let mut whole = pauses.first;
            for _ in 0..40 {
                let pause = backoff.pause();
                assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
                whole = (whole * 2).min(pauses.longest);
            }
            backoff.reset();
            assert!(backoff.pause() <= pauses.first);
        }
    }

    #[test]
    fn those_that_failed_together_do_not_try_again_together() {
        let pauses: std::collections::BTreeSet<Duration> =
            (0..100).map(|seed| DELIVERY.after(3, seed)).collect();
        assert!(pauses.len() > 50, "{pauses:?}");
        assert_eq!(DELIVERY.after(3, 5), DELIVERY.after(3, 5));
    }
}
