//! The write-behind cache: what the instance records in the database do not hold yet. Of each
//! active instance it has the newest row, its unsettled flag, and the record's pending change. For
//! example: an append of row 9 commits to the journal table only; the new head and status are put
//! here, and the flush queue writes them to the record later, together with many others. What is
//! here wins over the record; the committer writes here after each commit, and every reader looks
//! here first. An instance that is not here is complete in its record.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::InstanceId;
use crate::machine::Time;
use crate::store::Seq;
use crate::store::sqlite::record_delta::{RecordDelta, RecordStart};

/// A map by instance.
pub(super) type ById<T> = HashMap<InstanceId, T, BuildHasherDefault<IdHasher>>;

/// Ids looked at before others get the lock.
const CHUNK: usize = 512;

/// Whether effects of an instance may be pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnsettledFlag {
    Unsettled,
    /// With the time at which it must be looked at again.
    Settled(Option<Time>),
}

/// Where an instance's newest row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub row: i64,
    pub seq: Seq,
}

/// What an instance's record does not hold yet.
#[derive(Debug, Clone)]
pub(super) enum UnflushedRecord {
    Nothing,
    Delta(RecordDelta),
    /// There is no record yet.
    All(Arc<RecordStart>, RecordDelta),
}

#[derive(Debug, Clone)]
pub(super) struct UnflushedEntry {
    pub head: Head,
    pub mark: UnsettledFlag,
    pub record: UnflushedRecord,
    /// Whether the record holds all of it: it stays here only because it will be needed again soon.
    pub written: bool,
}

/// What one transaction did to an instance.
#[derive(Debug)]
pub(super) struct Transition {
    pub head: Head,
    pub mark: UnsettledFlag,
    pub start: Option<Arc<RecordStart>>,
    pub change: Option<RecordDelta>,
}

#[derive(Debug, Default)]
pub(super) struct Unflushed {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: ById<UnflushedEntry>,
    /// Those of which the record does not know all, by id.
    unwritten: BTreeSet<InstanceId>,
    /// Wake-ups, earliest first.
    wakes: BTreeSet<(Time, InstanceId)>,
}

impl Unflushed {
    pub fn head(&self, instance: InstanceId) -> Option<Head> {
        self.lock().entries.get(&instance).map(|entry| entry.head)
    }

    pub fn entry(&self, instance: InstanceId) -> Option<UnflushedEntry> {
        self.lock().entries.get(&instance).cloned()
    }

    pub fn contains(&self, instance: InstanceId) -> bool {
        self.lock().entries.contains_key(&instance)
    }

    /// A copy of the entry if `wanted`.
    pub fn entry_if(
        &self,
        instance: InstanceId,
        wanted: impl FnOnce(&UnflushedEntry) -> bool,
    ) -> Option<UnflushedEntry> {
        self.lock().entries.get(&instance).filter(|entry| wanted(entry)).cloned()
    }

    /// What a committed transaction did: first it wrote what was here, then instances moved.
    pub fn committed<'a>(
        &self,
        written: impl Iterator<Item = &'a InstanceId>,
        moved: impl Iterator<Item = (InstanceId, Transition)>,
    ) {
        let mut inner = self.lock();
        for instance in written {
            inner.written(*instance);
        }
        for (instance, moved) in moved {
            inner.moved(instance, moved);
        }
    }

    pub fn settle(&self, instance: InstanceId, head: Head, wake_at: Option<Time>) {
        self.lock().moved(
            instance,
            Transition { head, mark: UnsettledFlag::Settled(wake_at), start: None, change: None },
        );
    }

    /// Unsettled instances with an id greater than `after`: the first `limit`, in order.
    pub fn unsettled(&self, after: Option<InstanceId>, limit: usize) -> Vec<InstanceId> {
        let mut found: Vec<InstanceId> = {
            let inner = self.lock();
            let wanted = inner.entries.iter().filter(|(id, entry)| {
                entry.mark == UnsettledFlag::Unsettled && after.is_none_or(|after| **id > after)
            });
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
    pub fn due(
        &self,
        after: Option<(Time, InstanceId)>,
        until: Time,
        limit: usize,
    ) -> Vec<(Time, InstanceId)> {
        let inner = self.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let later = inner.wakes.range((start, Bound::Unbounded));
        later.take_while(|(at, _)| *at <= until).take(limit).copied().collect()
    }

    /// Gives instances with unwritten records to `take`, newest first, those before `before`, until
    /// it wants no more.
    pub fn for_unwritten(
        &self,
        before: Option<InstanceId>,
        mut take: impl FnMut(InstanceId, &UnflushedRecord) -> bool,
    ) {
        let mut before = before.map_or(Bound::Unbounded, Bound::Excluded);
        loop {
            let inner = self.lock();
            let mut last = None;
            for id in inner.unwritten.range((Bound::Unbounded, before)).rev().take(CHUNK) {
                last = Some(*id);
                if let Some(entry) = inner.entries.get(id)
                    && !take(*id, &entry.record)
                {
                    return;
                }
            }
            match last {
                Some(last) => before = Bound::Excluded(last),
                None => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic happens under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The record holds all now.
    fn written(&mut self, instance: InstanceId) {
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        if !matches!(entry.record, UnflushedRecord::Nothing) {
            entry.record = UnflushedRecord::Nothing;
            self.unwritten.remove(&instance);
        }
        entry.written = true;
        if let UnsettledFlag::Settled(wake_at) = entry.mark {
            // Nothing will come for it soon.
            self.entries.remove(&instance);
            if let Some(at) = wake_at {
                self.wakes.remove(&(at, instance));
            }
        }
    }

    fn moved(&mut self, instance: InstanceId, moved: Transition) {
        let Transition { head, mark, start, change } = moved;
        let nothing = UnflushedEntry {
            head,
            mark: UnsettledFlag::Unsettled,
            record: UnflushedRecord::Nothing,
            written: false,
        };
        let entry = self.entries.entry(instance).or_insert(nothing);
        if entry.mark != mark {
            if let UnsettledFlag::Settled(Some(at)) = entry.mark {
                self.wakes.remove(&(at, instance));
            }
            if let UnsettledFlag::Settled(Some(at)) = mark {
                self.wakes.insert((at, instance));
            }
        }
        (entry.head, entry.mark, entry.written) = (head, mark, false);
        match (start, change, &mut entry.record) {
            (Some(start), Some(change), record) => *record = UnflushedRecord::All(start, change),
            (None, Some(change), UnflushedRecord::All(_, now)) => *now = change,
            (None, Some(change), record) => *record = UnflushedRecord::Delta(change),
            (_, None, _) => return,
        }
        self.unwritten.insert(instance);
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
            self.0 = (self.0.rotate_left(29) ^ u64::from_ne_bytes(word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
