//! Live rows: whoever follows an instance hears of each row when it is durable. The engine announces and never waits: a follower that
//! falls behind misses rows, sees the gap in their numbers, and reads them from the store. Nothing here knows what a row says to people;
//! its messages are made once per row, by the first follower that wants them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{broadcast, mpsc};

use crate::document::Shape;
use crate::id::InstanceId;
use crate::messages::{self, Encoded};
use crate::store::Stored;

const SHARDS: usize = 64;
/// Rows that a follower may be behind before it reads the store.
const BEHIND: usize = 64;
/// With more followers than this, waking them is left to a task of its own, so that the engine does not do it.
const RELAY_ABOVE: usize = 8;
/// Rows on their way to such a task.
const RELAYED: usize = 1024;

/// Where the engine announces rows, and where followers hear of them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shards: Vec<Mutex<HashMap<InstanceId, Topic>>>,
    /// How many instances are followed.
    topics: AtomicUsize,
    followers: AtomicUsize,
}

#[derive(Debug)]
struct Topic {
    rows: broadcast::Sender<Live>,
    relay: Option<Relay>,
}

#[derive(Debug)]
struct Relay {
    rows: mpsc::Sender<Arc<Stored>>,
    has_missed: Arc<AtomicBool>,
}

/// What a follower hears.
#[derive(Debug, Clone)]
pub(crate) enum Live {
    Row(Arc<LiveRow>),
    /// Rows were left out: look into the store.
    Gap,
}

/// A durable row, and its messages once somebody has asked for them.
#[derive(Debug)]
pub(crate) struct LiveRow {
    pub(crate) stored: Arc<Stored>,
    encoded: OnceLock<Result<Encoded, String>>,
}

impl LiveRow {
    pub(crate) fn new(stored: Arc<Stored>) -> Self {
        Self { stored, encoded: OnceLock::new() }
    }

    /// The error: the row cannot be read by this binary.
    pub(crate) fn encoded(&self, instance: InstanceId, shape: &Shape) -> Result<&Encoded, String> {
        let encoded = self.encoded.get_or_init(|| messages::encode(instance, shape, &self.stored).map_err(|error| error.to_string()));
        encoded.as_ref().map_err(Clone::clone)
    }
}

impl Default for Hub {
    fn default() -> Self {
        let shards = std::iter::repeat_with(|| Mutex::new(HashMap::new())).take(SHARDS).collect();
        Self { inner: Arc::new(Inner { shards, topics: AtomicUsize::new(0), followers: AtomicUsize::new(0) }) }
    }
}

impl Hub {
    /// A row is durable. Called for every transition: nearly free when nobody follows.
    pub fn announce(&self, instance: InstanceId, row: &Arc<Stored>) {
        // A follower counts itself before it reads the store; so either this sees it, or it sees the row.
        if self.inner.topics.load(Ordering::SeqCst) == 0 {
            return;
        }
        let shard = self.inner.shard(instance);
        let Some(topic) = shard.get(&instance) else { return };
        match &topic.relay {
            None => {
                // Without followers it goes nowhere, which is right.
                let _ = topic.rows.send(Live::Row(Arc::new(LiveRow::new(row.clone()))));
            }
            Some(relay) => {
                if relay.rows.try_send(row.clone()).is_err() {
                    relay.has_missed.store(true, Ordering::SeqCst);
                }
            }
        }
    }

    /// From now on this hears of the instance's rows. What was durable before is in the store.
    pub(crate) fn follow(&self, instance: InstanceId) -> Follower {
        let mut shard = self.inner.shard(instance);
        let topic = shard.entry(instance).or_insert_with(|| {
            self.inner.topics.fetch_add(1, Ordering::SeqCst);
            Topic { rows: broadcast::Sender::new(BEHIND), relay: None }
        });
        let rows = topic.rows.subscribe();
        if topic.relay.is_none() && topic.rows.receiver_count() > RELAY_ABOVE {
            topic.relay = Some(Relay::begin(topic.rows.clone()));
        }
        self.inner.followers.fetch_add(1, Ordering::Relaxed);
        Follower { instance, rows: Some(rows), inner: self.inner.clone() }
    }

    pub(crate) fn followers(&self) -> usize {
        self.inner.followers.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn shard(&self, instance: InstanceId) -> MutexGuard<'_, HashMap<InstanceId, Topic>> {
        let at = usize::from(instance.0[15]) % SHARDS;
        // Nothing panics while it holds the lock; and a map of senders is never half-made.
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    fn begin(out: broadcast::Sender<Live>) -> Self {
        let (rows, mut relayed) = mpsc::channel::<Arc<Stored>>(RELAYED);
        let has_missed = Arc::new(AtomicBool::new(false));
        let missed = has_missed.clone();
        tokio::spawn(async move {
            while let Some(stored) = relayed.recv().await {
                // Nobody there any more: then the topic goes too.
                let _ = out.send(Live::Row(Arc::new(LiveRow::new(stored))));
                if relayed.is_empty() && missed.swap(false, Ordering::SeqCst) {
                    let _ = out.send(Live::Gap);
                }
            }
        });
        Self { rows, has_missed }
    }
}

/// One that hears of an instance's rows; ends by being dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    instance: InstanceId,
    /// `None` only while it is dropped.
    rows: Option<broadcast::Receiver<Live>>,
    inner: Arc<Inner>,
}

impl Follower {
    /// The next that is heard.
    pub(crate) async fn next(&mut self) -> Live {
        let Some(rows) = &mut self.rows else { return Live::Gap };
        // Behind by more than is kept. The sender is never gone while somebody receives.
        rows.recv().await.unwrap_or(Live::Gap)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut shard = self.inner.shard(self.instance);
        self.rows = None;
        self.inner.followers.fetch_sub(1, Ordering::Relaxed);
        if shard.get(&self.instance).is_some_and(|topic| topic.rows.receiver_count() == 0) {
            shard.remove(&self.instance);
            self.inner.topics.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: u32) -> Arc<Stored> {
        Arc::new(Stored { seq, settled: 0, row: String::new() })
    }

    fn seq(live: Live) -> Option<u32> {
        match live {
            Live::Row(row) => Some(row.stored.seq),
            Live::Gap => None,
        }
    }

    const ID: InstanceId = InstanceId([1; 16]);

    #[tokio::test]
    async fn a_follower_hears_of_its_instance_only_and_leaves_nothing_behind() {
        let hub = Hub::default();
        let mut follower = hub.follow(ID);
        hub.announce(InstanceId([2; 16]), &row(1));
        hub.announce(ID, &row(5));
        assert_eq!(seq(follower.next().await), Some(5));
        drop(follower);
        assert_eq!((hub.followers(), hub.inner.topics.load(Ordering::SeqCst)), (0, 0));
        hub.announce(ID, &row(6));
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_of_a_gap_and_nobody_waits_for_it() {
        let hub = Hub::default();
        let mut follower = hub.follow(ID);
        (1..=1000).for_each(|seq| hub.announce(ID, &row(seq)));
        assert_eq!(seq(follower.next().await), None);
        let last = seq(follower.next().await);
        assert!(last.is_some_and(|seq| seq > 900), "{last:?}");
    }

    #[tokio::test]
    async fn many_followers_all_hear_in_order() {
        let hub = Hub::default();
        let mut followers: Vec<Follower> = (0..500).map(|_| hub.follow(ID)).collect();
        for n in 1..=20 {
            hub.announce(ID, &row(n));
        }
        for follower in &mut followers {
            for n in 1..=20 {
                assert_eq!(seq(follower.next().await), Some(n));
            }
        }
    }

    #[tokio::test]
    async fn a_full_relay_ends_with_a_word_of_the_gap() {
        let hub = Hub::default();
        let mut followers: Vec<Follower> = (0..20).map(|_| hub.follow(ID)).collect();
        // More than the relay holds, before it gets to run.
        (1..=3000).for_each(|seq| hub.announce(ID, &row(seq)));
        let follower = &mut followers[0];
        let mut heard_gap_last = false;
        while let Ok(live) = tokio::time::timeout(std::time::Duration::from_millis(200), follower.next()).await {
            heard_gap_last = seq(live).is_none();
        }
        assert!(heard_gap_last, "rows were lost without a word");
    }
}
