//! Who works in processes of their own: every worker says again and again what it runs and what it
//! is at, and every node hears it. By that a node knows who lives, and which attempts have somebody
//! who works on them.
//!
//! A node also says something, and hears itself. While it does not — the broker is away, or takes
//! nothing from anybody — the silence of others means nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::id::{InstanceId, StepId};
use crate::machine::Time;
use crate::supervise;

/// A worker is taken for dead after missing so many of its own beats, and so much time more.
const BEATS: u32 = 3;
const SLACK: Duration = Duration::from_secs(1);
/// How long a dead one is listed.
const LISTED: Duration = Duration::from_secs(60);
/// How long it is known when something was last heard of what a dead one was at.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// How long after the first task for which there is no worker that is said in the log: one may just
/// be starting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Workers that are known at a time. Whoever may write to the broker can invent them.
const MAX_WORKERS: usize = 10_000;
/// Attempts of all of them together.
const MAX_ATTEMPTS: usize = 1_000_000;
/// Of these, a worker that is known has at least so many.
const OWN_ATTEMPTS: usize = 100;
/// Step types of one.
const MAX_STEPS: usize = 1000;
/// Bytes of a sign of life: some 40,000 attempts.
const MAX_BEAT: usize = 4 << 20;
/// A worker that promises to speak less often is taken to have promised this.
const MAX_EVERY_MS: u64 = 3_600_000;
/// How often is looked for workers that can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// That signs of life were dropped is said in the log at most so often.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// An attempt that a worker is at: the instance, the step, and which attempt; where attempts are
/// cancelled, 0 is all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Working(pub InstanceId, pub StepId, pub u32);

/// A worker's sign of life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beat {
    /// Unique: made when it starts.
    pub worker: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    pub steps: Vec<String>,
    pub concurrency: usize,
    /// Attempts that it runs, or whose results are not out yet.
    pub working: Vec<Working>,
    /// When the next one comes, at the latest.
    pub every_ms: u64,
    /// This is the last one.
    pub is_last: bool,
}

/// What is said under [`crate::bus::routing_keys::WORKERS`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Said {
    Worker(Beat),
    /// A node, to itself.
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
    /// Attempts side by side at most.
    pub concurrency: usize,
    pub running: usize,
    pub last_seen: String,
    /// Whether it gave its signs of life in time.
    pub is_alive: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Roster {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What this node calls itself.
    node: String,
    /// Not having heard itself for longer than this, it hears nobody.
    gap: Duration,
    /// When it heard itself last, and since when without a gap.
    heard: Option<(Instant, Instant)>,
    workers: BTreeMap<String, Known>,
    /// When a worker said last that it is at an attempt.
    attempts: HashMap<Working, Instant>,
    /// Who takes tasks of a step type.
    takers: HashMap<String, BTreeSet<String>>,
    swept_at: Option<Instant>,
    /// Signs of life that were dropped, since it was said, and when that was.
    dropped: (u64, Option<Instant>),
    /// Step types that had tasks while nobody was there, and whether that was said.
    unserved: BTreeSet<&'static str>,
}

#[derive(Debug)]
struct Known {
    beat: Beat,
    at: Instant,
}

impl State {
    /// Since when beats are heard; `None`: they are not, and silence means nothing.
    fn hears_since(&self) -> Option<Instant> {
        self.heard.filter(|(last, _)| last.elapsed() <= self.gap).map(|(_, since)| since)
    }

    fn hear_worker(&mut self, mut beat: Beat) {
        self.sweep();
        let before = self.forget(&beat.worker);
        if beat.is_last {
            if before.is_some() {
                info!(worker = beat.worker, "a worker has ended in order");
            }
            return;
        }
        // One that is known already is never dropped for those that are not.
        if before.is_none() && self.workers.len() >= MAX_WORKERS {
            return self.drop_one(&format!("{MAX_WORKERS} workers are known, and more are not"));
        }
        if beat.steps.len() > MAX_STEPS {
            return self.drop_one(&format!(
                "it names {} step types, and a worker has at most {MAX_STEPS}",
                beat.steps.len()
            ));
        }
        beat.working.sort_unstable();
        beat.working.dedup();
        // One that is known may name as many as before, and a few, however many others have named.
        let own = before.as_ref().map_or(0, |known| known.beat.working.len().max(OWN_ATTEMPTS));
        let room = MAX_ATTEMPTS.saturating_sub(self.attempts.len()).max(own);
        if beat.working.len() > room {
            self.drop_one(&format!(
                "workers are at {} attempts, and together may be at {MAX_ATTEMPTS}",
                self.attempts.len()
            ));
            beat.working.truncate(room);
        }
        if before.is_none() {
            info!(
                worker = beat.worker,
                host = beat.host,
                pid = beat.pid,
                steps = beat.steps.join(","),
                "a worker has come"
            );
        }
        self.unserved.retain(|step_type| !beat.steps.iter().any(|step| step == step_type));
        let at = Instant::now();
        self.attempts.extend(beat.working.iter().map(|working| (*working, at)));
        for step_type in &beat.steps {
            self.takers.entry(step_type.clone()).or_default().insert(beat.worker.clone());
        }
        beat.every_ms = beat.every_ms.min(MAX_EVERY_MS);
        self.workers.insert(beat.worker.clone(), Known { beat, at });
    }

    /// With all that is known only by it.
    fn forget(&mut self, worker: &str) -> Option<Known> {
        let known = self.workers.remove(worker)?;
        for working in &known.beat.working {
            // Another worker may have said since that it is at it.
            if self.attempts.get(working) == Some(&known.at) {
                self.attempts.remove(working);
            }
        }
        for step_type in &known.beat.steps {
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
        if self.swept_at.is_some_and(|at| at.elapsed() < SWEEP_EVERY) {
            return;
        }
        self.swept_at = Some(Instant::now());
        let long = |known: &Known| {
            known.at.elapsed() >= if known.beat.working.is_empty() { LISTED } else { REMEMBERED }
        };
        self.forget_all(long);
        if self.workers.len() >= MAX_WORKERS {
            self.forget_all(|known| !known.is_alive() && known.beat.working.is_empty());
        }
        if self.workers.len() >= MAX_WORKERS {
            self.forget_all(|known| !known.is_alive());
        }
    }

    fn forget_all(&mut self, which: impl Fn(&Known) -> bool) {
        let names: Vec<String> = self
            .workers
            .values()
            .filter(|known| which(known))
            .map(|known| known.beat.worker.clone())
            .collect();
        for name in names {
            self.forget(&name);
        }
    }

    /// A sign of life that is not taken, and why.
    fn drop_one(&mut self, why: &str) {
        let (count, said_at) = &mut self.dropped;
        *count += 1;
        if said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            warn!(
                count,
                why,
                "signs of life of workers are dropped: somebody may be inventing them on the broker"
            );
            self.dropped = (0, Some(Instant::now()));
        }
    }

    /// Whether a worker that lives takes tasks of that step type.
    fn runs(&self, step_type: &str) -> bool {
        let takers = self.takers.get(step_type);
        takers.is_some_and(|takers| {
            takers.iter().any(|worker| self.workers.get(worker).is_some_and(Known::is_alive))
        })
    }
}

impl Known {
    fn is_alive(&self) -> bool {
        self.at.elapsed() <= Duration::from_millis(self.beat.every_ms) * BEATS + SLACK
    }
}

impl Roster {
    /// Under this name this node speaks to itself, so often.
    pub fn speak(&self, node: String, every: Duration) {
        let mut state = self.lock();
        state.node = node;
        state.gap = every * 2;
    }

    /// What came under [`crate::bus::routing_keys::WORKERS`].
    pub(in crate::bus) fn hear_text(&self, text: &[u8]) {
        if text.len() > MAX_BEAT {
            return self
                .lock()
                .drop_one(&format!("it has {} bytes, and may have {MAX_BEAT}", text.len()));
        }
        match serde_json::from_slice(text) {
            Ok(said) => self.hear(said),
            Err(error) => debug!(%error, "a worker's sign of life cannot be understood"),
        }
    }

    pub fn hear(&self, said: Said) {
        let mut state = self.lock();
        match said {
            Said::Worker(beat) => state.hear_worker(beat),
            Said::Node { node } if node == state.node => {
                let now = Instant::now();
                state.heard = Some((now, state.hears_since().unwrap_or(now)));
            }
            Said::Node { .. } => {}
        }
    }

    /// From when on it counts that nothing was heard of an attempt; `now` while nothing can be
    /// heard.
    pub fn silent_since(&self, working: &Working, now: Time) -> Time {
        let state = self.lock();
        let Some(since) = state.hears_since() else { return now };
        let heard = state.attempts.get(working);
        let ago = heard.map_or(since, |heard| *heard.max(&since)).elapsed();
        Time(now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Whether a worker that lives takes tasks of that step type. While nobody can be heard,
    /// somebody may be there.
    pub fn runs(&self, step_type: &str) -> bool {
        let state = self.lock();
        state.hears_since().is_none() || state.runs(step_type)
    }

    /// A task of that step type is on its way to whoever is there.
    pub(in crate::bus) fn sent(self: &Arc<Self>, step_type: &'static str) {
        let mut state = self.lock();
        if state.runs(step_type) || !state.unserved.insert(step_type) {
            return;
        }
        let roster = Arc::downgrade(self);
        supervise::spawn("the roster of workers", async move {
            tokio::time::sleep(PATIENCE).await;
            if let Some(roster) = roster.upgrade()
                && roster.lock().unserved.contains(step_type)
            {
                warn!(
                    step_type,
                    "there are tasks and no worker that lives takes them: start one with `crux worker --steps {step_type}`"
                );
            }
        });
    }

    /// By the worker's id.
    pub fn list(&self, now: Time) -> Vec<Listing> {
        let state = self.lock();
        let listing = |known: &Known| {
            let ago = i64::try_from(known.at.elapsed().as_millis()).unwrap_or(i64::MAX);
            let Beat { worker, host, pid, version, steps, concurrency, .. } = known.beat.clone();
            Listing {
                worker,
                host,
                pid,
                version,
                steps,
                concurrency,
                running: known.beat.working.len(),
                last_seen: Time(now.0.saturating_sub(ago)).to_string(),
                is_alive: known.is_alive(),
            }
        };
        state.workers.values().filter(|known| known.at.elapsed() < LISTED).map(listing).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AN_ATTEMPT: Working = Working(InstanceId([1; 16]), StepId([2; 16]), 1);

    /// A node that hears itself.
    async fn hearing() -> Roster {
        let roster = Roster::default();
        roster.speak("me".to_owned(), Duration::from_secs(1));
        roster.hear(Said::Node { node: "me".to_owned() });
        roster
    }

    async fn pass(roster: &Roster, seconds: u32) {
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            roster.hear(Said::Node { node: "another".to_owned() });
            roster.hear(Said::Node { node: "me".to_owned() });
        }
    }

    fn beat(worker: &str, working: &[Working]) -> Said {
        Said::Worker(last_beat(worker, working, false))
    }

    fn last_beat(worker: &str, working: &[Working], is_last: bool) -> Beat {
        Beat {
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
    async fn silence_counts_from_the_last_beat_that_names_the_attempt_and_not_while_nothing_is_heard()
     {
        let (roster, now) = (hearing().await, Time(1_000_000));
        pass(&roster, 10).await;
        roster.hear(beat("a", &[AN_ATTEMPT]));
        roster.hear(beat("b", &[]));
        pass(&roster, 2).await;
        roster.hear(beat("b", &[]));
        assert_eq!(roster.silent_since(&AN_ATTEMPT, now), Time(998_000));
        assert_eq!(
            roster.silent_since(&Working(InstanceId([9; 16]), StepId([2; 16]), 1), now),
            Time(988_000)
        );
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(roster.silent_since(&AN_ATTEMPT, now), now);
        pass(&roster, 1).await;
        pass(&roster, 1).await;
        assert_eq!(
            roster.silent_since(&AN_ATTEMPT, now),
            Time(999_000),
            "what could not be heard is not held against it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_silent_runs_nothing_and_one_that_ends_is_gone() {
        assert!(Roster::default().runs("double"), "nobody can be heard yet");
        let (roster, now) = (hearing().await, Time(1_000_000));
        assert!(!roster.runs("double"));
        roster.hear(beat("a", &[AN_ATTEMPT]));
        assert!(roster.runs("double") && !roster.runs("halve"));
        let listed = roster.list(now);
        assert_eq!(
            (listed[0].running, listed[0].is_alive, listed[0].last_seen.as_str()),
            (1, true, "1970-01-01T00:16:40.000Z")
        );
        pass(&roster, 5).await;
        assert!(!roster.runs("double"));
        assert!(!roster.list(now)[0].is_alive);
        roster.hear(beat("a", &[]));
        assert!(roster.runs("double"));
        roster.hear(Said::Worker(last_beat("a", &[], true)));
        assert!(!roster.runs("double") && roster.list(now).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn invented_workers_cost_little_and_displace_nobody() {
        let (roster, now, began) = (hearing().await, Time(1_000_000), std::time::Instant::now());
        roster.hear(beat("real", &[AN_ATTEMPT]));
        for n in 0..30_000_u32 {
            roster.hear(beat(
                &format!("invented-{n}"),
                &[Working(InstanceId([3; 16]), StepId([4; 16]), n)],
            ));
        }
        let listed = roster.list(now);
        assert_eq!(listed.len(), MAX_WORKERS);
        let real =
            |roster: &Roster| roster.list(now).into_iter().find(|listing| listing.worker == "real");
        assert_eq!(real(&roster).map(|listing| listing.running), Some(1));
        roster.hear(beat("real", &[AN_ATTEMPT]));
        assert!(
            real(&roster).is_some_and(|listing| listing.is_alive)
                && roster.silent_since(&AN_ATTEMPT, now) == now
        );
        assert!(roster.lock().dropped.0 > 10_000, "{:?}", roster.lock().dropped);
        // When those are silent, there is room again.
        pass(&roster, 6).await;
        roster.hear(beat("late", &[]));
        assert!(roster.list(now).iter().any(|listing| listing.worker == "late"));
        // Looking at all of them for each took minutes.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn invented_attempts_displace_none_of_a_worker_that_is_known() {
        let (roster, now) = (hearing().await, Time(1_000_000));
        roster.hear(beat("real", &[]));
        let many: Vec<Working> = (0..)
            .map(|n| Working(InstanceId([3; 16]), StepId([4; 16]), n))
            .take(MAX_ATTEMPTS + 5)
            .collect();
        roster.hear(beat("invented", &many));
        let known = roster.lock().attempts.len();
        assert_eq!(known, MAX_ATTEMPTS);
        pass(&roster, 2).await;
        roster.hear(beat("real", &[AN_ATTEMPT]));
        assert_eq!(roster.silent_since(&AN_ATTEMPT, now), now);
        assert!(
            roster.list(now).iter().any(|listing| listing.worker == "real" && listing.running == 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_its_worker_does_not_name_any_more_is_not_heard_of() {
        let (roster, now) = (hearing().await, Time(1_000_000));
        roster.hear(beat("a", &[AN_ATTEMPT]));
        pass(&roster, 2).await;
        roster.hear(beat("b", &[AN_ATTEMPT]));
        roster.hear(beat("a", &[]));
        assert_eq!(roster.silent_since(&AN_ATTEMPT, now), now, "another is at it");
        roster.hear(beat("b", &[]));
        assert_eq!(roster.silent_since(&AN_ATTEMPT, now), Time(998_000));
        assert_eq!(roster.lock().attempts.len(), 0);
    }
}
