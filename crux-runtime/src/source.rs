//! Sources of nondeterminism: the system clock, and randomness for ids and tokens. With both
//! from a seed, a run can be repeated exactly.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// What differs from run to run; [`System`], unless a test brings its own.
pub trait Source: fmt::Debug + Send + Sync {
    /// The system's clock, in milliseconds since 1970. It may jump, both ways.
    fn wall_ms(&self) -> i64;

    /// Fills `bytes` with unpredictable randomness. The error is for people.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), String>;
}

/// The operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Source for System {
    fn wall_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .unwrap_or(0)
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), String> {
        getrandom::fill(bytes).map_err(|error| format!("no randomness from the system: {error}"))
    }
}

pub(crate) fn random<const N: usize>(source: &dyn Source) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    source.fill(&mut bytes)?;
    Ok(bytes)
}
