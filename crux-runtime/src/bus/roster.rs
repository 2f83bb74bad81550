//! Who works in processes of their own: every worker says again and again what it runs and what it is at, and every node hears it. By that
//! a node knows who lives, and which attempts have somebody who works on them.
//!
//! A node also says something, and hears itself. While it does not — the broker is away, or takes nothing from anybody — the silence of
//! others means nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};
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
/// How long after the first task for which there is no worker that is said in the log: one may just be starting.
const PATIENCE: Duration = Duration::from_secs(10);

/// An attempt that a worker is at: the instance, the step, and which attempt; where attempts are cancelled, 0 is all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// What is said under [`super::keys::WORKERS`].
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
    /// Step types that had tasks while nobody was there, and whether that was said.
    unserved: BTreeSet<&'static str>,
}

#[derive(Debug)]
struct Known {
    beat: Beat,
    working: HashSet<Working>,
    at: Instant,
}

impl State {
    /// Since when beats are heard; `None`: they are not, and silence means nothing.
    fn hears_since(&self) -> Option<Instant> {
        self.heard.filter(|(last, _)| last.elapsed() <= self.gap).map(|(_, since)| since)
    }

    fn hear_worker(&mut self, mut beat: Beat) {
        self.workers.retain(|_, known| known.at.elapsed() < if known.working.is_empty() { LISTED } else { REMEMBERED });
        if beat.is_last {
            if self.workers.remove(&beat.worker).is_some() {
                info!(worker = beat.worker, "a worker has ended in order");
            }
            return;
        }
        if !self.workers.contains_key(&beat.worker) {
            info!(worker = beat.worker, host = beat.host, pid = beat.pid, steps = beat.steps.join(","), "a worker has come");
        }
        self.unserved.retain(|step_type| !beat.steps.iter().any(|step| step == step_type));
        let working = std::mem::take(&mut beat.working).into_iter().collect();
        self.workers.insert(beat.worker.clone(), Known { beat, working, at: Instant::now() });
    }
}

impl Known {
    fn is_alive(&self) -> bool {
        self.at.elapsed() <= Duration::from_millis(self.beat.every_ms) * BEATS + SLACK
    }

    fn runs(&self, step_type: &str) -> bool {
        self.is_alive() && self.beat.steps.iter().any(|step| step == step_type)
    }
}

impl Roster {
    /// Under this name this node speaks to itself, so often.
    pub fn speak(&self, node: String, every: Duration) {
        let mut state = self.lock();
        state.node = node;
        state.gap = every * 2;
    }

    /// What came under [`super::keys::WORKERS`].
    pub(in crate::bus) fn hear_text(&self, text: &[u8]) {
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

    /// From when on it counts that nothing was heard of an attempt; `now` while nothing can be heard.
    pub fn silent_since(&self, working: &Working, now: Time) -> Time {
        let state = self.lock();
        let Some(since) = state.hears_since() else { return now };
        let heard = state.workers.values().filter(|known| known.working.contains(working)).map(|known| known.at).max();
        let ago = heard.map_or(since, |heard| heard.max(since)).elapsed();
        Time(now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Whether a worker that lives takes tasks of that step type. While nobody can be heard, somebody may be there.
    pub fn runs(&self, step_type: &str) -> bool {
        let state = self.lock();
        state.hears_since().is_none() || state.workers.values().any(|known| known.runs(step_type))
    }

    /// A task of that step type is on its way to whoever is there.
    pub(in crate::bus) fn sent(self: &Arc<Self>, step_type: &'static str) {
        let mut state = self.lock();
        if state.workers.values().any(|known| known.runs(step_type)) || !state.unserved.insert(step_type) {
            return;
        }
        let roster = Arc::downgrade(self);
        supervise::spawn("the roster of workers", async move {
            tokio::time::sleep(PATIENCE).await;
            if let Some(roster) = roster.upgrade()
                && roster.lock().unserved.contains(step_type)
            {
                warn!(step_type, "there are tasks and no worker that lives takes them: start one with `crux worker --steps {step_type}`");
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
                running: known.working.len(),
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
    async fn silence_counts_from_the_last_beat_that_names_the_attempt_and_not_while_nothing_is_heard() {
        let (roster, now) = (hearing().await, Time(1_000_000));
        pass(&roster, 10).await;
        roster.hear(beat("a", &[AN_ATTEMPT]));
        roster.hear(beat("b", &[]));
        pass(&roster, 2).await;
        roster.hear(beat("b", &[]));
        assert_eq!(roster.silent_since(&AN_ATTEMPT, now), Time(998_000));
        assert_eq!(roster.silent_since(&Working(InstanceId([9; 16]), StepId([2; 16]), 1), now), Time(988_000));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(roster.silent_since(&AN_ATTEMPT, now), now);
        pass(&roster, 1).await;
        pass(&roster, 1).await;
        assert_eq!(roster.silent_since(&AN_ATTEMPT, now), Time(999_000), "what could not be heard is not held against it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_silent_runs_nothing_and_one_that_ends_is_gone() {
        assert!(Roster::default().runs("double"), "nobody can be heard yet");
        let (roster, now) = (hearing().await, Time(1_000_000));
        assert!(!roster.runs("double"));
        roster.hear(beat("a", &[AN_ATTEMPT]));
        assert!(roster.runs("double") && !roster.runs("halve"));
        let listed = roster.list(now);
        assert_eq!((listed[0].running, listed[0].is_alive, listed[0].last_seen.as_str()), (1, true, "1970-01-01T00:16:40.000Z"));
        pass(&roster, 5).await;
        assert!(!roster.runs("double"));
        assert!(!roster.list(now)[0].is_alive);
        roster.hear(beat("a", &[]));
        assert!(roster.runs("double"));
        roster.hear(Said::Worker(last_beat("a", &[], true)));
        assert!(!roster.runs("double") && roster.list(now).is_empty());
    }
}
