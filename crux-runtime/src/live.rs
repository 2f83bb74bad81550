//! Live rows: each row of a followed instance is sent to its followers when it is durable. The
//! engine announces rows and never waits: a follower that falls behind misses some, sees the gap in
//! their numbers, and reads them from the store. Nothing here knows how a row is shown; its
//! messages are made once per row, by the first follower that needs them.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{Notify, broadcast, mpsc};

use crate::id::InstanceId;
use crate::store::{Seq, Stored};
use crate::supervise;

const SHARDS: usize = 64;
/// Rows that a follower may be behind before it reads the store.
const FOLLOWER_LAG_MAX: usize = 64;
/// With more followers than this, a separate task wakes them, so that the engine does not.
const RELAY_ABOVE: usize = 8;
/// Rows on their way to such a task.
const RELAY_LEN_MAX: usize = 1024;

/// Where the engine announces rows and followers subscribe. Cheap to clone.
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
    /// Notified when another instance is followed, or one is not followed any more.
    changed: Notify,
}

#[derive(Debug)]
struct Topic {
    out: Out,
    /// The last row that was announced here.
    seq: Seq,
    relay: Option<Relay>,
}

/// The channel of a topic's followers.
#[derive(Debug, Clone)]
struct Out {
    rows: broadcast::Sender<Live>,
    /// For those who want to be woken by an end only; they find the rows that led to it in `rows`.
    ended: Arc<Notify>,
}

#[derive(Debug)]
struct Relay {
    rows: mpsc::Sender<(Arc<Stored>, bool)>,
    has_missed: Arc<AtomicBool>,
}

/// What a follower receives.
#[derive(Debug, Clone)]
pub(crate) enum Live {
    Row(Arc<LiveRow>),
    /// Rows were left out: look into the store.
    Gap,
}

/// A durable row, and what its readers have made of it: once for all of them.
#[derive(Debug)]
pub(crate) struct LiveRow {
    pub(crate) stored: Arc<Stored>,
    /// Its type is chosen by the readers, which are above this module.
    memo: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl LiveRow {
    pub(crate) fn new(stored: Arc<Stored>) -> Self {
        Self { stored, memo: OnceLock::new() }
    }

    /// The value that `make` derives from the row, computed once. `None`: it was computed with
    /// another type.
    pub(crate) fn memo<T: Any + Send + Sync>(&self, make: impl FnOnce(&Stored) -> T) -> Option<&T> {
        self.memo.get_or_init(|| Box::new(make(&self.stored))).downcast_ref()
    }
}

impl Default for Hub {
    fn default() -> Self {
        let shards = std::iter::repeat_with(|| Mutex::new(HashMap::new())).take(SHARDS).collect();
        Self {
            inner: Arc::new(Inner {
                shards,
                topics: AtomicUsize::new(0),
                followers: AtomicUsize::new(0),
                changed: Notify::new(),
            }),
        }
    }
}

impl Hub {
    /// A row is durable, and with it the instance `has_ended` or not. Called for every transition:
    /// nearly free without followers.
    pub fn announce(&self, instance: InstanceId, row: &Stored, has_ended: bool) {
        // A follower counts itself before it reads the store; so either this sees it, or it sees
        // the row.
        if self.inner.topics.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut shard = self.inner.shard(instance);
        let Some(topic) = shard.get_mut(&instance) else { return };
        topic.seq = row.seq;
        match &topic.relay {
            None => topic.out.send(Arc::new(row.clone()), has_ended),
            Some(relay) => {
                if relay.rows.try_send((Arc::new(row.clone()), has_ended)).is_err() {
                    relay.has_missed.store(true, Ordering::SeqCst);
                }
            }
        }
    }

    /// Follows the instance's rows from now on. Earlier rows are in the store.
    pub(crate) fn follow(&self, instance: InstanceId) -> Follower {
        let mut shard = self.inner.shard(instance);
        let topic = shard.entry(instance).or_insert_with(|| {
            self.inner.topics.fetch_add(1, Ordering::SeqCst);
            self.inner.changed.notify_one();
            Topic {
                seq: 0,
                out: Out { rows: broadcast::Sender::new(FOLLOWER_LAG_MAX), ended: Arc::default() },
                relay: None,
            }
        });
        let (rows, ended) = (topic.out.rows.subscribe(), topic.out.ended.clone());
        if topic.relay.is_none() && topic.out.rows.receiver_count() > RELAY_ABOVE {
            topic.relay = Some(Relay::begin(topic.out.clone()));
        }
        self.inner.followers.fetch_add(1, Ordering::Relaxed);
        Follower { instance, rows: Some(rows), ended, inner: self.inner.clone() }
    }

    /// Another node has appended up to that row: followers look into the store, unless they have
    /// received it.
    pub(crate) fn grown(&self, instance: InstanceId, seq: Seq) {
        if let Some(topic) = self.inner.shard(instance).get(&instance)
            && topic.seq < seq
        {
            topic.out.send_gap();
        }
    }

    /// Any instance may have grown at another node.
    pub(crate) fn may_have_missed(&self) {
        for shard in &self.inner.shards {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .for_each(|topic| topic.out.send_gap());
        }
    }

    /// The instances that are followed.
    pub(crate) fn followed(&self) -> Vec<InstanceId> {
        let shards = self.inner.shards.iter();
        shards
            .flat_map(|shard| {
                shard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .keys()
                    .copied()
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Ends when what [`Self::followed`] gives may have changed since it last ended; for one
    /// listener.
    pub(crate) async fn changed(&self) {
        self.inner.changed.notified().await;
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

impl Out {
    fn send(&self, row: Arc<Stored>, has_ended: bool) {
        // Without followers it goes nowhere, which is right.
        let _ = self.rows.send(Live::Row(Arc::new(LiveRow::new(row))));
        if has_ended {
            self.ended.notify_waiters();
        }
    }

    /// Rows were left out; the end may have been among them.
    fn send_gap(&self) {
        let _ = self.rows.send(Live::Gap);
        self.ended.notify_waiters();
    }
}

impl Relay {
    fn begin(out: Out) -> Self {
        let (rows, mut relayed) = mpsc::channel(RELAY_LEN_MAX);
        let has_missed = Arc::new(AtomicBool::new(false));
        let missed = has_missed.clone();
        supervise::spawn("relaying to followers", async move {
            while let Some((stored, has_ended)) = relayed.recv().await {
                out.send(stored, has_ended);
                if relayed.is_empty() && missed.swap(false, Ordering::SeqCst) {
                    out.send_gap();
                }
            }
        });
        Self { rows, has_missed }
    }
}

/// A follower of an instance's rows; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Follower {
    instance: InstanceId,
    /// `None` only while it is dropped.
    rows: Option<broadcast::Receiver<Live>>,
    ended: Arc<Notify>,
    inner: Arc<Inner>,
}

impl Follower {
    /// The next row or event.
    pub(crate) async fn next(&mut self) -> Live {
        let Some(rows) = &mut self.rows else { return Live::Gap };
        // Behind by more than is kept. The sender lives as long as a receiver.
        rows.recv().await.unwrap_or(Live::Gap)
    }

    /// The next row or event, if one is queued.
    pub(crate) fn try_next(&mut self) -> Option<Live> {
        match self.rows.as_mut()?.try_recv() {
            Ok(live) => Some(live),
            Err(TryRecvError::Lagged(_)) => Some(Live::Gap),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    /// Ends when the instance ends, or may have ended, from now on; [`Self::try_next`] then says how.
    /// A follower that only waits for the end is not woken by every row.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<> {
        self.ended.clone().notified_owned()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut shard = self.inner.shard(self.instance);
        self.rows = None;
        self.inner.followers.fetch_sub(1, Ordering::Relaxed);
        if shard.get(&self.instance).is_some_and(|topic| topic.out.rows.receiver_count() == 0) {
            shard.remove(&self.instance);
            self.inner.topics.fetch_sub(1, Ordering::SeqCst);
            self.inner.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: u32) -> Stored {
        Stored { seq, settled: 0, row: "".into() }
    }

    fn seq(live: Live) -> Option<u32> {
        match live {
            Live::Row(row) => Some(row.stored.seq),
            Live::Gap => None,
        }
    }

    const ID: InstanceId = InstanceId([1; 16]);

    #[tokio::test]
    async fn a_follower_receives_its_instance_only_and_leaves_nothing_behind() {
        let hub = Hub::default();
        let mut follower = hub.follow(ID);
        hub.announce(InstanceId([2; 16]), &row(1), false);
        hub.announce(ID, &row(5), false);
        assert_eq!(seq(follower.next().await), Some(5));
        drop(follower);
        assert_eq!((hub.followers(), hub.inner.topics.load(Ordering::SeqCst)), (0, 0));
        hub.announce(ID, &row(6), false);
    }

    #[tokio::test]
    async fn a_slow_follower_receives_a_gap_and_holds_up_no_other() {
        let hub = Hub::default();
        let mut follower = hub.follow(ID);
        (1..=1000).for_each(|seq| hub.announce(ID, &row(seq), false));
        assert_eq!(seq(follower.next().await), None);
        let last = seq(follower.next().await);
        assert!(last.is_some_and(|seq| seq > 900), "{last:?}");
    }

    #[tokio::test]
    async fn many_followers_all_receive_in_order() {
        let hub = Hub::default();
        let mut followers: Vec<Follower> = (0..500).map(|_| hub.follow(ID)).collect();
        for n in 1..=20 {
            hub.announce(ID, &row(n), false);
        }
        for follower in &mut followers {
            for n in 1..=20 {
                assert_eq!(seq(follower.next().await), Some(n));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_relay_ends_with_a_word_of_the_gap() {
        let hub = Hub::default();
        let mut followers: Vec<Follower> = (0..20).map(|_| hub.follow(ID)).collect();
        // More than the relay holds, before it gets to run.
        (1..=3000).for_each(|seq| hub.announce(ID, &row(seq), false));
        let follower = &mut followers[0];
        let mut gap_came_last = false;
        while let Ok(live) =
            tokio::time::timeout(std::time::Duration::from_millis(200), follower.next()).await
        {
            gap_came_last = seq(live).is_none();
        }
        assert!(gap_came_last, "rows were lost without a word");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_wakes_those_who_wait_for_it_after_its_row_and_nothing_else_does() {
        // Alone, and with so many that a separate task wakes them.
        for others in [0, 20] {
            let hub = Hub::default();
            let _others: Vec<Follower> = (0..others).map(|_| hub.follow(ID)).collect();
            let mut follower = hub.follow(ID);
            let mut ended = Box::pin(follower.ended());
            (1..=3).for_each(|seq| hub.announce(ID, &row(seq), false));
            let limit = std::time::Duration::from_millis(50);
            assert!(tokio::time::timeout(limit, &mut ended).await.is_err(), "woken by a row");
            hub.announce(ID, &row(4), true);
            assert!(tokio::time::timeout(limit, &mut ended).await.is_ok(), "not woken by the end");
            let received: Vec<Option<u32>> =
                std::iter::from_fn(|| follower.try_next()).map(seq).collect();
            assert_eq!(received, [Some(1), Some(2), Some(3), Some(4)]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_lost_in_a_full_relay_wakes_all_the_same() {
        let hub = Hub::default();
        let mut followers: Vec<Follower> = (0..20).map(|_| hub.follow(ID)).collect();
        let ended = followers[0].ended();
        (1..=3000).for_each(|seq| hub.announce(ID, &row(seq), seq == 3000));
        assert!(
            tokio::time::timeout(std::time::Duration::from_secs(5), ended).await.is_ok(),
            "not woken"
        );
        let received: Vec<Option<u32>> =
            std::iter::from_fn(|| followers[0].try_next()).map(seq).collect();
        assert!(received.contains(&None), "rows were lost without a word: {received:?}");
    }
}
