//! Retry and timeouts of one task: the contract's defaults and the step's own, merged key by key,
//! with what is left unsaid filled in.

use super::contracts::Contract;
use crate::ir::Policy;
use crate::model::{Retry, Timeout};
use crate::source::Spanned;

/// The first back-off where `retry` gives none.
const BACKOFF_MS: u64 = 1_000;
const FACTOR: f64 = 2.0;

pub fn merge(contract: &Contract<'_>, retry: Option<&Retry>, timeout: Option<&Timeout>) -> Policy {
    let retries = [retry, contract.retry];
    let timeouts = [timeout, contract.timeout];
    let names = |of: fn(&Retry) -> Option<&Spanned<Vec<crate::model::Name>>>| {
        let names = first(retries, of).map(|names| names.value.as_slice()).unwrap_or_default();
        names.iter().map(|name| name.value.clone()).collect::<Vec<_>>()
    };
    let time =
        |of: fn(&Timeout) -> Option<&Spanned<u64>>| first(timeouts, of).map(|time| time.value);
    let max_backoff_ms = first(retries, |retry| retry.max_ms.as_ref()).map(|max| max.value);
    let backoff_ms = first(retries, |retry| retry.backoff_ms.as_ref()).map(|backoff| backoff.value);
    let factor =
        first(retries, |retry| retry.factor.as_ref()).map_or(FACTOR, |factor| factor.value);
    Policy {
        attempts: first(retries, |retry| Some(&retry.attempts))
            .map_or(1, |attempts| attempts.value),
        backoff_ms: backoff_ms
            .unwrap_or_else(|| max_backoff_ms.map_or(BACKOFF_MS, |max| max.min(BACKOFF_MS))),
        // Floats saturate in this conversion; the parser has checked that the factor is at least 1.
        factor_milli: (factor * 1000.0).round() as u32,
        max_backoff_ms,
        jitter: first(retries, |retry| retry.jitter.as_ref()).is_none_or(|jitter| jitter.value),
        only: names(|retry| retry.only.as_ref()),
        never: names(|retry| retry.never.as_ref()),
        queue_ms: time(|timeout| timeout.queue_ms.as_ref()),
        run_ms: time(|timeout| timeout.run_ms.as_ref()),
        heartbeat_ms: time(|timeout| timeout.heartbeat_ms.as_ref()),
        total_ms: time(|timeout| timeout.total_ms.as_ref()),
    }
}

fn first<'a, W, T: ?Sized>(
    written: [Option<&'a W>; 2],
    of: impl Fn(&'a W) -> Option<&'a T>,
) -> Option<&'a T> {
    written.into_iter().flatten().find_map(of)
}
