//! Randomness from a seed: SplitMix64, one stream per purpose, so that one more question here does
//! not change the answers there.

use std::sync::Mutex;

#[derive(Debug)]
pub struct Random(Mutex<u64>);

impl Random {
    pub fn new(seed: u64, purpose: &str) -> Self {
        let state = purpose.bytes().fold(seed.wrapping_add(0x9e37_79b9_7f4a_7c15), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(Mutex::new(state))
    }

    pub fn next(&self) -> u64 {
        let mut state = self.0.lock().expect("no test panics with the lock held");
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True in `percent` of a hundred.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
