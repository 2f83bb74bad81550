//! Time and randomness of the engine, from the seed.

use std::sync::atomic::{AtomicI64, Ordering};

use crux_runtime::engine::Source;

use super::random::Random;

/// The wall clock stands; what passes is the engine's own measure, and it is set between two lives.
#[derive(Debug)]
pub struct Seeded {
    random: Random,
    wall_ms: AtomicI64,
}

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, "source"), wall_ms: AtomicI64::new(1_764_000_000_000) }
    }

    pub fn pass(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Source for Seeded {
    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), String> {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.random.next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}
