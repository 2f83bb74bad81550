//! The engine under faults, from a seed: virtual time, a store that fails before and after it has done its work, services that lose,
//! double, delay and refuse, and crashes between any two awaits. What must hold is checked against the outside ledger of the services and
//! against the journals. A failure prints its seed; `CRUX_SEED=… cargo test -p crux-runtime --test simulation` plays it again, and
//! `CRUX_SEEDS=…` says how many are played.

#[path = "../machine/order.rs"]
#[allow(dead_code, reason = "the machine's own tests use the rest")]
mod order;

mod audit;
mod bed;
mod lease;
mod loading;
mod marks;
mod random;
mod services;
mod store;
mod world;

#[test]
fn whatever_fails_nothing_acknowledged_is_lost_or_done_twice() {
    let one: Option<u64> = std::env::var("CRUX_SEED").ok().and_then(|seed| seed.parse().ok());
    let count: u64 = std::env::var("CRUX_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(150);
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        if let Err(problem) = world::play(seed) {
            panic!("seed {seed}: {problem}\nplay it again with CRUX_SEED={seed}");
        }
    }
}

/// The simulator must be able to find something: a store that forgets acknowledged rows is caught.
#[test]
fn a_store_that_forgets_is_found_out() {
    let found = (0..20).any(|seed| world::play_with(seed, store::Faults { forgets: true, ..store::Faults::default() }).is_err());
    assert!(found, "a planted loss was not noticed");
}
