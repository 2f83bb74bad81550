//! How long something took, counted into buckets: a histogram that costs a counter or two, and no
//! lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in microseconds, from a commit to a step that takes an hour.
const BOUNDS_US: [u64; 14] = [
    100,
    500,
    1_000,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    30_000_000,
    120_000_000,
    600_000_000,
    3_600_000_000,
];

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// By bound; the last is of what took longer than all of them.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Times {
    pub(crate) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

/// Some [`Times`] as they are at a moment, added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sum {
    buckets: [u64; BOUNDS_US.len() + 1],
    us: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, times: &Times) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&times.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        self.us = self.us.saturating_add(times.sum_us.load(Ordering::Relaxed));
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(crate) fn seconds(&self) -> f64 {
        Duration::from_micros(self.us).as_secs_f64()
    }

    /// Upper bounds in seconds, each with how many took longer than the bound before and not longer
    /// than this one.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_US.iter().map(|us| Duration::from_micros(*us).as_secs_f64());
        bounds.chain([f64::INFINITY]).zip(self.buckets).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_as_long_as_a_bound_is_below_it() {
        let times = Times::default();
        for us in [0, 100, 101, 5_000, 4_000_000_000] {
            times.observe(Duration::from_micros(us));
        }
        let mut sum = Sum::default();
        sum.add(&times);
        sum.add(&times);
        assert_eq!((sum.count(), sum.seconds()), (10, 2.0 * 4_000.005_201));
        let buckets = sum.buckets();
        assert_eq!(buckets[..4], [(0.0001, 4), (0.0005, 2), (0.001, 0), (0.005, 2)]);
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, 2)));
    }
}
