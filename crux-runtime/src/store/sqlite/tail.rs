//! What the committer still has to write of heads and marks, and when. Rows after the mark are the journal's tail: a restart reads it to
//! find the newest rows, so it is kept short, by writing the heads of instances that have not moved for so long. An instance that moves
//! on, or ends, before its head comes to be written costs nothing here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::heads::{Head, Heads, Mark};
use crate::id::InstanceId;
use crate::store::Seq;

/// Rows that a restart may have to read.
const TAIL_ROWS: usize = 131_072;

/// Heads are written so many at a time.
const CHUNK: usize = 1_024;

/// An instance that goes on this soon never has its mark cleared on disk.
const SETTLE_DELAY: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Tail {
    /// In commit order; instances are there once per row.
    rows: VecDeque<(i64, InstanceId)>,
    settled: VecDeque<(Instant, InstanceId, Seq)>,
}

/// What is to be written now.
#[derive(Debug, Default)]
pub(super) struct Lazy {
    pub heads: Vec<(InstanceId, Head)>,
    /// The heads of all instances with rows up to this one are then in their records.
    pub mark: Option<i64>,
    rows: usize,
    settled: usize,
}

impl Lazy {
    pub fn is_empty(&self) -> bool {
        self.rows == 0 && self.settled == 0
    }
}

impl Tail {
    pub fn appended(&mut self, row: i64, instance: InstanceId) {
        self.rows.push_back((row, instance));
    }

    pub fn settled(&mut self, now: Instant, instance: InstanceId, seq: Seq) {
        self.settled.push_back((now, instance, seq));
    }

    /// When there will be something to write though nothing is appended.
    pub fn next(&self) -> Option<Instant> {
        self.settled.front().map(|(at, _, _)| *at + SETTLE_DELAY)
    }

    /// What has to be written now, except for instances that are `moving` in the same transaction.
    pub fn due(&self, now: Instant, heads: &Heads, moving: impl Fn(InstanceId) -> bool) -> Lazy {
        let settled = self.settled.iter().take(CHUNK).take_while(|(at, _, _)| *at + SETTLE_DELAY <= now).count();
        let rows = if self.rows.len() >= TAIL_ROWS + CHUNK { CHUNK } else { 0 };
        self.take(rows, settled, heads, moving)
    }

    /// Everything.
    pub fn all(&self, heads: &Heads) -> Lazy {
        self.take(self.rows.len(), self.settled.len(), heads, |_| false)
    }

    /// Forgets what has been written.
    pub fn written(&mut self, lazy: &Lazy) {
        self.rows.drain(..lazy.rows);
        self.settled.drain(..lazy.settled);
    }

    fn take(&self, rows: usize, settled: usize, heads: &Heads, moving: impl Fn(InstanceId) -> bool) -> Lazy {
        let mut found = Vec::new();
        for (row, instance) in self.rows.iter().take(rows) {
            // A head with a greater number is further back in the tail.
            if let Some(head) = heads.get(*instance).filter(|head| head.row == *row && !moving(*instance)) {
                found.push((*instance, head));
            }
        }
        for (_, instance, seq) in self.settled.iter().take(settled) {
            let still = |head: &Head| head.seq == *seq && head.mark != Mark::Unsettled && !moving(*instance);
            if let Some(head) = heads.get(*instance).filter(still) {
                found.push((*instance, head));
            }
        }
        // Neighbours share pages.
        found.sort_unstable_by_key(|(instance, _)| *instance);
        found.dedup_by_key(|(instance, _)| *instance);
        let mark = rows.checked_sub(1).and_then(|last| self.rows.get(last)).map(|(row, _)| *row);
        Lazy { heads: found, mark, rows, settled }
    }
}
