//! A limit for failed attempts, by address and by client id: who goes on is answered 429, with the
//! time to come back. Only failures count and only failures are refused: a right credential always
//! comes in, so that nobody can lock another out. In bounded memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures that an address or a client id may have in a row.
const BURST: u32 = 10;
/// One more is forgiven each time that so long has passed.
const REFILL: Duration = Duration::from_secs(6);
/// Addresses and ids that are remembered. Beyond it those are forgotten that have least to be
/// remembered for.
const REMEMBERED_MAX: usize = 10_000;

/// Whose failures are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// Of IPv6 the network: a machine has as many addresses as it likes.
    Address([u8; 8]),
    Client(String),
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct FailureLimit {
    /// When all failures of a key are forgiven.
    forgiven_at: Mutex<HashMap<Key, Instant>>,
}

impl FailureLimit {
    /// Counts a failure; in how long the next one is no longer too much, if this one is.
    pub(super) fn count(&self, address: Option<IpAddr>, client: Option<&str>) -> Option<Duration> {
        let now = Instant::now();
        let keys = address.map(of_address).into_iter();
        let keys = keys.chain(client.map(|id| Key::Client(id.to_owned())));
        let mut all = self.forgiven_at.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = keys.filter_map(|key| {
            if all.len() >= REMEMBERED_MAX && !all.contains_key(&key) {
                make_room(&mut all, now);
            }
            let at = all.entry(key).or_insert(now);
            let full = now + REFILL * BURST;
            *at = (*at).max(now) + REFILL;
            let wait = at.checked_duration_since(full).filter(|wait| !wait.is_zero());
            // What is refused does not count: it would make the wait endless.
            *at = (*at).min(full);
            wait
        });
        // Both are counted.
        waits.collect::<Vec<_>>().into_iter().max()
    }
}

fn make_room(all: &mut HashMap<Key, Instant>, now: Instant) {
    all.retain(|_, at| *at > now);
    if all.len() < REMEMBERED_MAX {
        return;
    }
    let mut times: Vec<Instant> = all.values().copied().collect();
    let (_, median, _) = times.select_nth_unstable(REMEMBERED_MAX / 2);
    let median = *median;
    all.retain(|_, at| *at > median);
}

fn of_address(address: IpAddr) -> Key {
    let mut network = [0; 8];
    match address.to_canonical() {
        // No IPv6 network begins so that anyone has it.
        IpAddr::V4(address) => network[4..].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => network.copy_from_slice(&address.octets()[..8]),
    }
    Key::Address(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_some_failures_an_address_has_to_wait_and_others_have_not() {
        let limit = FailureLimit::default();
        let (one, other) = ("10.0.0.1".parse().ok(), "10.0.0.2".parse().ok());
        for n in 0..BURST {
            assert_eq!(limit.count(one, None), None, "{n}");
        }
        for _ in 0..100 {
            assert_eq!(limit.count(one, None), Some(REFILL));
        }
        assert_eq!(limit.count(other, None), None);
        tokio::time::advance(REFILL).await;
        assert_eq!(limit.count(one, None), None);
        assert!(limit.count(one, None).is_some());
        tokio::time::advance(REFILL * BURST).await;
        assert_eq!(limit.count(one, None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_id_is_counted_wherever_its_failures_come_from() {
        let limit = FailureLimit::default();
        for n in 0..BURST {
            let address = format!("10.0.{n}.1").parse().ok();
            assert_eq!(limit.count(address, Some("shop")), None);
        }
        assert!(limit.count("10.1.0.1".parse().ok(), Some("shop")).is_some());
        assert_eq!(limit.count("10.1.0.2".parse().ok(), Some("other")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_counts_as_one_and_memory_is_bounded() {
        let limit = FailureLimit::default();
        for n in 0..BURST {
            limit.count(format!("2001:db8::{n:x}").parse().ok(), None);
        }
        assert!(limit.count("2001:db8::ffff".parse().ok(), None).is_some());
        assert_eq!(limit.count("2001:db8:0:1::1".parse().ok(), None), None);
        for n in 0..3 * REMEMBERED_MAX as u32 {
            limit.count(Some(IpAddr::V4((0x0a00_0000 + n).into())), None);
            assert!(limit.forgiven_at.lock().unwrap().len() <= REMEMBERED_MAX);
        }
    }
}
