//! The worker processes that this node knows. Every worker broadcasts heartbeats that list the
//! attempts it is running; every node receives them, and so knows which workers are alive and which
//! attempts are being worked on.
//!
//! A node also publishes probes and receives them itself. While its own probes are missing — the
//! broker is down, or blocks publishing — missing heartbeats mean nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::id::{InstanceId, StepId};
use crate::machine::Time;
use crate::supervise;

/// A worker counts as dead after so many missed heartbeats, and this much time more.
const MISSED_HEARTBEATS_MAX: u32 = 3;
const HEARTBEAT_SLACK: Duration = Duration::from_secs(1);
/// How long a dead worker is listed.
const LISTING_RETENTION: Duration = Duration::from_secs(60);
/// How long the last heartbeats of a dead worker's attempts are remembered.
const ATTEMPTS_RETENTION: Duration = Duration::from_secs(24 * 3600);
/// From the first task without a worker to the warning about it: a worker may just be starting.
const UNSERVED_WARNING_DELAY: Duration = Duration::from_secs(10);
/// Workers known at a time. Any client of the broker can forge heartbeats.
const WORKERS_MAX: usize = 10_000;
/// Running attempts of all workers together.
const ATTEMPTS_MAX: usize = 1_000_000;
/// Attempts that a known worker may always list.
const ATTEMPTS_PER_WORKER_MIN: usize = 100;
/// Step types of one worker.
const STEP_TYPES_MAX: usize = 1000;
/// Size of a heartbeat: some 40,000 attempts.
const HEARTBEAT_BYTES_MAX: usize = 4 << 20;
/// A longer interval that a worker announces is cut to this.
const HEARTBEAT_INTERVAL_MS_MAX: u64 = 3_600_000;
/// How often dead workers are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Rejected heartbeats are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Identifies an attempt: instance, step, number. In a cancellation, number 0 means all attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptIds(pub InstanceId, pub StepId, pub u32);

/// A worker's heartbeat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Unique: made when it starts.
    pub worker: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    pub steps: Vec<String>,
    pub concurrency: usize,
    /// Attempts that it runs, or whose results are not published yet.
    pub working: Vec<AttemptIds>,
    /// The next heartbeat follows within this time.
    pub every_ms: u64,
    /// The worker shuts down: this is its last heartbeat.
    pub is_last: bool,
}

/// A broadcast under [`crate::bus::routing_keys::WORKERS`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PresenceMessage {
    Worker(Heartbeat),
    /// A probe that a node sends to itself.
    Node {
        node: String,
    },
}

/// A worker, as `GET /api/v1/workers` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    pub worker: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    pub steps: Vec<String>,
    /// Maximum concurrent attempts.
    pub concurrency: usize,
    pub running: usize,
    pub last_seen: String,
    /// Whether its heartbeats come in time.
    pub is_alive: bool,
}

/// The known workers, their step types and running attempts. Example: worker `a1` sends a heartbeat
/// with attempt 2 of `order/42/pay` every second and dies; four seconds later [`Self::list`] shows it
/// as dead, and [`Self::last_heartbeat`] of that attempt stays at the last heartbeat, until the
/// engine's heartbeat timeout fails the attempt.
#[derive(Debug, Default)]
pub struct WorkerRegistry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The name in this node's probes.
    node: String,
    /// Without a probe for longer than this, the node receives nothing.
    gap: Duration,
    /// The last own probe, and since when probes have come without a gap.
    self_probe: Option<(Instant, Instant)>,
    workers: BTreeMap<String, KnownWorker>,
    /// The last heartbeat of an attempt.
    attempts: HashMap<AttemptIds, Instant>,
    /// The workers that accept tasks of a step type.
    takers: HashMap<String, BTreeSet<String>>,
    swept_at: Option<Instant>,
    /// Heartbeats rejected since the last warning, and when that was.
    dropped: (u64, Option<Instant>),
    /// Step types with tasks and without a worker.
    unserved: BTreeSet<&'static str>,
}

#[derive(Debug)]
struct KnownWorker {
    heartbeat: Heartbeat,
    at: Instant,
}

impl State {
    /// Since when heartbeats are received; `None`: they are not, and missing ones mean nothing.
    fn receiving_since(&self) -> Option<Instant> {
        self.self_probe.filter(|(last, _)| last.elapsed() <= self.gap).map(|(_, since)| since)
    }

    fn receive_heartbeat(&mut self, mut heartbeat: Heartbeat) {
        self.sweep();
        let before = self.forget(&heartbeat.worker);
        if heartbeat.is_last {
            if before.is_some() {
                info!(worker = heartbeat.worker, "worker shut down");
            }
            return;
        }
        // One that is known already is never dropped for those that are not.
        if before.is_none() && self.workers.len() >= WORKERS_MAX {
            return self.reject(&format!("{WORKERS_MAX} workers are known, and more are not"));
        }
        if heartbeat.steps.len() > STEP_TYPES_MAX {
            return self.reject(&format!(
                "it names {} step types, and a worker has at most {STEP_TYPES_MAX}",
                heartbeat.steps.len()
            ));
        }
        heartbeat.working.sort_unstable();
        heartbeat.working.dedup();
        // One that is known may name as many as before, and a few, however many others have named.
        let own = before
            .as_ref()
            .map_or(0, |known| known.heartbeat.working.len().max(ATTEMPTS_PER_WORKER_MIN));
        let room = ATTEMPTS_MAX.saturating_sub(self.attempts.len()).max(own);
        if heartbeat.working.len() > room {
            self.reject(&format!(
                "workers are at {} attempts, and together may be at {ATTEMPTS_MAX}",
                self.attempts.len()
            ));
            heartbeat.working.truncate(room);
        }
        if before.is_none() {
            info!(
                worker = heartbeat.worker,
                host = heartbeat.host,
                pid = heartbeat.pid,
                steps = heartbeat.steps.join(","),
                "worker registered"
            );
        }
        self.unserved.retain(|step_type| !heartbeat.steps.iter().any(|step| step == step_type));
        let at = Instant::now();
        self.attempts.extend(heartbeat.working.iter().map(|working| (*working, at)));
        for step_type in &heartbeat.steps {
            self.takers.entry(step_type.clone()).or_default().insert(heartbeat.worker.clone());
        }
        heartbeat.every_ms = heartbeat.every_ms.min(HEARTBEAT_INTERVAL_MS_MAX);
        self.workers.insert(heartbeat.worker.clone(), KnownWorker { heartbeat, at });
    }

    /// With all that is known only by it.
    fn forget(&mut self, worker: &str) -> Option<KnownWorker> {
        let known = self.workers.remove(worker)?;
        for working in &known.heartbeat.working {
            // Another worker may have said since that it is at it.
            if self.attempts.get(working) == Some(&known.at) {
                self.attempts.remove(working);
            }
        }
        for step_type in &known.heartbeat.steps {
            if let Some(takers) = self.takers.get_mut(step_type) {
                takers.remove(worker);
                if takers.is_empty() {
                    self.takers.remove(step_type);
                }
            }
        }
        Some(known)
    }

    /// Forgets those that have been silent for long; where there is no room, also those that are
    /// dead and were at nothing, and then those that are dead.
    fn sweep(&mut self) {
        if self.swept_at.is_some_and(|at| at.elapsed() < SWEEP_INTERVAL) {
            return;
        }
        self.swept_at = Some(Instant::now());
        let long = |known: &KnownWorker| {
            known.at.elapsed()
                >= if known.heartbeat.working.is_empty() {
                    LISTING_RETENTION
                } else {
                    ATTEMPTS_RETENTION
                }
        };
        self.forget_all(long);
        if self.workers.len() >= WORKERS_MAX {
            self.forget_all(|known| !known.is_alive() && known.heartbeat.working.is_empty());
        }
        if self.workers.len() >= WORKERS_MAX {
            self.forget_all(|known| !known.is_alive());
        }
    }

    fn forget_all(&mut self, which: impl Fn(&KnownWorker) -> bool) {
        let names: Vec<String> = self
            .workers
            .values()
            .filter(|known| which(known))
            .map(|known| known.heartbeat.worker.clone())
            .collect();
        for name in names {
            self.forget(&name);
        }
    }

    /// Rejects a heartbeat for this reason.
    fn reject(&mut self, why: &str) {
        let (count, said_at) = &mut self.dropped;
        *count += 1;
        if said_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            warn!(
                count,
                why, "worker heartbeats are rejected; a client of the broker may be forging them"
            );
            self.dropped = (0, Some(Instant::now()));
        }
    }

    /// Whether a live worker accepts tasks of that step type.
    fn runs(&self, step_type: &str) -> bool {
        let takers = self.takers.get(step_type);
        takers.is_some_and(|takers| {
            takers.iter().any(|worker| self.workers.get(worker).is_some_and(KnownWorker::is_alive))
        })
    }
}

impl KnownWorker {
    fn is_alive(&self) -> bool {
        self.at.elapsed()
            <= Duration::from_millis(self.heartbeat.every_ms) * MISSED_HEARTBEATS_MAX
                + HEARTBEAT_SLACK
    }
}

impl WorkerRegistry {
    /// Expects a probe under this name at this interval.
    pub fn start_self_probe(&self, node: String, every: Duration) {
        let mut state = self.lock();
        state.node = node;
        state.gap = every * 2;
    }

    /// Handles a message under [`crate::bus::routing_keys::WORKERS`].
    pub(in crate::bus) fn receive_text(&self, text: &[u8]) {
        if text.len() > HEARTBEAT_BYTES_MAX {
            return self.lock().reject(&format!(
                "it has {} bytes, and may have {HEARTBEAT_BYTES_MAX}",
                text.len()
            ));
        }
        match serde_json::from_slice(text) {
            Ok(said) => self.receive(said),
            Err(error) => debug!(%error, "a worker's heartbeat cannot be decoded"),
        }
    }

    pub fn receive(&self, said: PresenceMessage) {
        let mut state = self.lock();
        match said {
            PresenceMessage::Worker(heartbeat) => state.receive_heartbeat(heartbeat),
            PresenceMessage::Node { node } if node == state.node => {
                let now = Instant::now();
                state.self_probe = Some((now, state.receiving_since().unwrap_or(now)));
            }
            PresenceMessage::Node { .. } => {}
        }
    }

    /// When the last heartbeat of an attempt was received; `now` while no heartbeats can be
    /// received.
    pub fn last_heartbeat(&self, working: &AttemptIds, now: Time) -> Time {
        let state = self.lock();
        let Some(since) = state.receiving_since() else { return now };
        let last = state.attempts.get(working);
        let ago = last.map_or(since, |at| *at.max(&since)).elapsed();
        Time(now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Whether a live worker accepts tasks of that step type. While nothing is received, one may.
    pub fn runs(&self, step_type: &str) -> bool {
        let state = self.lock();
        state.receiving_since().is_none() || state.runs(step_type)
    }

    /// A task of that step type is about to be published.
    pub(in crate::bus) fn sent(self: &Arc<Self>, step_type: &'static str) {
        let mut state = self.lock();
        if state.runs(step_type) || !state.unserved.insert(step_type) {
            return;
        }
        let workers = Arc::downgrade(self);
        supervise::spawn("the warning about tasks without a worker", async move {
            tokio::time::sleep(UNSERVED_WARNING_DELAY).await;
            if let Some(workers) = workers.upgrade()
                && workers.lock().unserved.contains(step_type)
            {
                warn!(
                    step_type,
                    "tasks are queued but no live worker accepts them; start one with `crux worker --steps {step_type}`"
                );
            }
        });
    }

    /// By the worker's id.
    pub fn list(&self, now: Time) -> Vec<Listing> {
        let state = self.lock();
        let listing = |known: &KnownWorker| {
            let ago = i64::try_from(known.at.elapsed().as_millis()).unwrap_or(i64::MAX);
            let Heartbeat { worker, host, pid, version, steps, concurrency, .. } =
                known.heartbeat.clone();
            Listing {
                worker,
                host,
                pid,
                version,
                steps,
                concurrency,
                running: known.heartbeat.working.len(),
                last_seen: Time(now.0.saturating_sub(ago)).to_string(),
                is_alive: known.is_alive(),
            }
        };
        state
            .workers
            .values()
            .filter(|known| known.at.elapsed() < LISTING_RETENTION)
            .map(listing)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AN_ATTEMPT: AttemptIds = AttemptIds(InstanceId([1; 16]), StepId([2; 16]), 1);

    /// A node that receives its own probes.
    async fn broadcast_queue() -> WorkerRegistry {
        let workers = WorkerRegistry::default();
        workers.start_self_probe("me".to_owned(), Duration::from_secs(1));
        workers.receive(PresenceMessage::Node { node: "me".to_owned() });
        workers
    }

    async fn pass(workers: &WorkerRegistry, seconds: u32) {
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            workers.receive(PresenceMessage::Node { node: "another".to_owned() });
            workers.receive(PresenceMessage::Node { node: "me".to_owned() });
        }
    }

    fn heartbeat(worker: &str, working: &[AttemptIds]) -> PresenceMessage {
        PresenceMessage::Worker(last_heartbeat_of(worker, working, false))
    }

    fn last_heartbeat_of(worker: &str, working: &[AttemptIds], is_last: bool) -> Heartbeat {
        Heartbeat {
            worker: worker.to_owned(),
            host: "here".to_owned(),
            pid: 1,
            version: "1.0.0".to_owned(),
            steps: vec!["double".to_owned()],
            concurrency: 2,
            working: working.to_vec(),
            every_ms: 1000,
            is_last,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_heartbeat_with_the_attempt_and_not_while_none_is_received()
     {
        let (workers, now) = (broadcast_queue().await, Time(1_000_000));
        pass(&workers, 10).await;
        workers.receive(heartbeat("a", &[AN_ATTEMPT]));
        workers.receive(heartbeat("b", &[]));
        pass(&workers, 2).await;
        workers.receive(heartbeat("b", &[]));
        assert_eq!(workers.last_heartbeat(&AN_ATTEMPT, now), Time(998_000));
        assert_eq!(
            workers.last_heartbeat(&AttemptIds(InstanceId([9; 16]), StepId([2; 16]), 1), now),
            Time(988_000)
        );
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(workers.last_heartbeat(&AN_ATTEMPT, now), now);
        pass(&workers, 1).await;
        pass(&workers, 1).await;
        assert_eq!(
            workers.last_heartbeat(&AN_ATTEMPT, now),
            Time(999_000),
            "missed heartbeats do not count while none can be received"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_silent_runs_nothing_and_one_that_ends_is_gone() {
        assert!(WorkerRegistry::default().runs("double"), "no heartbeats can be received yet");
        let (workers, now) = (broadcast_queue().await, Time(1_000_000));
        assert!(!workers.runs("double"));
        workers.receive(heartbeat("a", &[AN_ATTEMPT]));
        assert!(workers.runs("double") && !workers.runs("halve"));
        let listed = workers.list(now);
        assert_eq!(
            (listed[0].running, listed[0].is_alive, listed[0].last_seen.as_str()),
            (1, true, "1970-01-01T00:16:40.000Z")
        );
        pass(&workers, 5).await;
        assert!(!workers.runs("double"));
        assert!(!workers.list(now)[0].is_alive);
        workers.receive(heartbeat("a", &[]));
        assert!(workers.runs("double"));
        workers.receive(PresenceMessage::Worker(last_heartbeat_of("a", &[], true)));
        assert!(!workers.runs("double") && workers.list(now).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn invented_workers_cost_little_and_displace_nobody() {
        let (workers, now, began) =
            (broadcast_queue().await, Time(1_000_000), std::time::Instant::now());
        workers.receive(heartbeat("real", &[AN_ATTEMPT]));
        for n in 0..30_000_u32 {
            workers.receive(heartbeat(
                &format!("invented-{n}"),
                &[AttemptIds(InstanceId([3; 16]), StepId([4; 16]), n)],
            ));
        }
        let listed = workers.list(now);
        assert_eq!(listed.len(), WORKERS_MAX);
        let real = |workers: &WorkerRegistry| {
            workers.list(now).into_iter().find(|listing| listing.worker == "real")
        };
        assert_eq!(real(&workers).map(|listing| listing.running), Some(1));
        workers.receive(heartbeat("real", &[AN_ATTEMPT]));
        assert!(
            real(&workers).is_some_and(|listing| listing.is_alive)
                && workers.last_heartbeat(&AN_ATTEMPT, now) == now
        );
        assert!(workers.lock().dropped.0 > 10_000, "{:?}", workers.lock().dropped);
        // When those are silent, there is room again.
        pass(&workers, 6).await;
        workers.receive(heartbeat("late", &[]));
        assert!(workers.list(now).iter().any(|listing| listing.worker == "late"));
        // Looking at all of them for each took minutes.
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn invented_attempts_displace_none_of_a_worker_that_is_known() {
        let (workers, now) = (broadcast_queue().await, Time(1_000_000));
        workers.receive(heartbeat("real", &[]));
        let many: Vec<AttemptIds> = (0..)
            .map(|n| AttemptIds(InstanceId([3; 16]), StepId([4; 16]), n))
            .take(ATTEMPTS_MAX + 5)
            .collect();
        workers.receive(heartbeat("invented", &many));
        let known = workers.lock().attempts.len();
        assert_eq!(known, ATTEMPTS_MAX);
        pass(&workers, 2).await;
        workers.receive(heartbeat("real", &[AN_ATTEMPT]));
        assert_eq!(workers.last_heartbeat(&AN_ATTEMPT, now), now);
        assert!(
            workers
                .list(now)
                .iter()
                .any(|listing| listing.worker == "real" && listing.running == 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_its_worker_no_longer_names_has_no_heartbeat() {
        let (workers, now) = (broadcast_queue().await, Time(1_000_000));
        workers.receive(heartbeat("a", &[AN_ATTEMPT]));
        pass(&workers, 2).await;
        workers.receive(heartbeat("b", &[AN_ATTEMPT]));
        workers.receive(heartbeat("a", &[]));
        assert_eq!(workers.last_heartbeat(&AN_ATTEMPT, now), now, "another is at it");
        workers.receive(heartbeat("b", &[]));
        assert_eq!(workers.last_heartbeat(&AN_ATTEMPT, now), Time(998_000));
        assert_eq!(workers.lock().attempts.len(), 0);
    }
}
