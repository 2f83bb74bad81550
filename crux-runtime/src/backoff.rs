//! Pauses between tries to reach a broker.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// They double up to a limit, and are never quite the same.
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self::up_to(LONGEST_PAUSE)
    }

    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { next: FIRST_PAUSE, longest }
    }

    /// There was a connection: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST_PAUSE;
    }

    /// Between half of the pause and all of it, so that nodes which lost the broker together do not
    /// come back together.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        let mut random = [0; 1];
        // Without randomness the pause is the whole one.
        let part = getrandom::fill(&mut random).map_or(u8::MAX, |()| random[0]);
        whole / 2 + whole / 2 * u32::from(part) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_vary() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.pause()).collect();
        assert!(pauses[0] >= FIRST_PAUSE / 2 && pauses[0] <= FIRST_PAUSE, "{pauses:?}");
        assert!(pauses[11] >= LONGEST_PAUSE / 2 && pauses[11] <= LONGEST_PAUSE, "{pauses:?}");
        backoff.reset();
        assert!(backoff.pause() <= FIRST_PAUSE);
    }
}
