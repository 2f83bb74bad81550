//! Where the newest row of each active instance is. The committer writes here after each commit and everybody reads. An instance that is
//! not here has its newest row in its record; so what is here wins over the record, always.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::InstanceId;
use crate::machine::Time;
use crate::store::Seq;

/// A map by instance.
pub(super) type ById<T> = HashMap<InstanceId, T, BuildHasherDefault<IdHasher>>;

/// Whether effects of an instance may still have to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Unsettled,
    /// With the time at which it must be looked at again.
    Settled(Option<Time>),
}

/// An instance's newest row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub row: i64,
    pub seq: Seq,
    pub mark: Mark,
}

#[derive(Debug, Default)]
pub(super) struct Heads {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: ById<Head>,
    /// The wake-ups among the entries, earliest first.
    wakes: BTreeSet<(Time, InstanceId)>,
}

impl Heads {
    pub fn get(&self, instance: InstanceId) -> Option<Head> {
        self.lock().entries.get(&instance).copied()
    }

    pub fn contains(&self, instance: InstanceId) -> bool {
        self.lock().entries.contains_key(&instance)
    }

    /// Changes entries together: `None` removes.
    pub fn change(&self, changes: impl Iterator<Item = (InstanceId, Option<Head>)>) {
        let mut inner = self.lock();
        for (instance, head) in changes {
            inner.put(instance, head);
        }
    }

    /// Unsettled instances with an id greater than `after`: the first `limit`, in order.
    pub fn unsettled(&self, after: Option<InstanceId>, limit: usize) -> Vec<InstanceId> {
        let mut found: Vec<InstanceId> = {
            let inner = self.lock();
            let wanted = inner.entries.iter().filter(|(id, head)| head.mark == Mark::Unsettled && after.is_none_or(|after| **id > after));
            wanted.map(|(id, _)| *id).collect()
        };
        if found.len() > limit && limit > 0 {
            found.select_nth_unstable(limit - 1);
        }
        found.truncate(limit);
        found.sort_unstable();
        found
    }

    /// The first `limit` wake-ups after `after` that are not later than `until`.
    pub fn due(&self, after: Option<(Time, InstanceId)>, until: Time, limit: usize) -> Vec<(Time, InstanceId)> {
        let inner = self.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let later = inner.wakes.range((start, Bound::Unbounded));
        later.take_while(|(at, _)| *at <= until).take(limit).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic happens under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, instance: InstanceId, head: Option<Head>) {
        let before = match head {
            Some(head) => self.entries.insert(instance, head),
            None => self.entries.remove(&instance),
        };
        if let Some(Head { mark: Mark::Settled(Some(at)), .. }) = before {
            self.wakes.remove(&(at, instance));
        }
        if let Some(Head { mark: Mark::Settled(Some(at)), .. }) = head {
            self.wakes.insert((at, instance));
        }
    }
}

/// Ids are random enough: folding them is all the hashing they need.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(29) ^ u64::from_ne_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
