//! What the committer still has to write into records, and when. Rows after the mark are the journal's tail: a restart reads it to find
//! what records do not hold, so it is kept short, by writing what is unwritten of the instances at its beginning. Most of them have ended
//! by then and are written once in their lives.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::heads::{Entry, Heads, Mark, Unwritten};
use crate::id::InstanceId;

/// Rows that a restart may have to read.
const TAIL_ROWS: usize = 65_536;

/// Written at once, in the transaction of a group.
const CHUNK: usize = 1_024;

/// Changes younger than this are left alone: most of these instances will change again soon, and an instance that goes on never has its
/// mark cleared on disk.
const DELAY: Duration = Duration::from_millis(300);

/// How far records may be behind, as a person sees them who looks into the file. Waiting a little longer than [`DELAY`] makes many changes
/// at once, which share pages.
const BEHIND: Duration = Duration::from_millis(600);

#[derive(Debug, Default)]
pub(super) struct Tail {
    /// In commit order; instances are there once per row.
    rows: VecDeque<(i64, InstanceId)>,
    /// Settled, or with a changed record, since then.
    changed: VecDeque<(Instant, InstanceId)>,
    /// Whether there was more to write than one transaction should.
    catching_up: bool,
}

/// What is to be written now.
#[derive(Debug, Default)]
pub(super) struct Lazy {
    pub entries: Vec<(InstanceId, Entry)>,
    /// Records hold all of the rows up to this one then.
    pub mark: Option<i64>,
    rows: usize,
    changed: usize,
}

impl Lazy {
    pub fn is_empty(&self) -> bool {
        self.rows == 0 && self.changed == 0
    }
}

impl Tail {
    pub fn appended(&mut self, row: i64, instance: InstanceId) {
        self.rows.push_back((row, instance));
    }

    pub fn changed(&mut self, now: Instant, instance: InstanceId) {
        self.changed.push_back((now, instance));
    }

    /// When there will be something to write though nothing is appended.
    pub fn next(&self) -> Option<Instant> {
        self.changed.front().map(|(at, _)| *at + if self.catching_up { DELAY } else { BEHIND })
    }

    /// What has to be written now.
    pub fn due(&self, now: Instant, heads: &Heads) -> Lazy {
        let is_time = self.next().is_some_and(|next| next <= now);
        let changed = if is_time { self.changed.iter().take(CHUNK).take_while(|(at, _)| *at + DELAY <= now).count() } else { 0 };
        let rows = if self.rows.len() >= TAIL_ROWS + CHUNK { CHUNK } else { 0 };
        self.take(rows, changed, heads)
    }

    /// Everything.
    pub fn all(&self, heads: &Heads) -> Lazy {
        self.take(self.rows.len(), self.changed.len(), heads)
    }

    /// Forgets what has been written.
    pub fn written(&mut self, lazy: &Lazy) {
        self.rows.drain(..lazy.rows);
        self.changed.drain(..lazy.changed);
        self.catching_up = lazy.changed == CHUNK;
    }

    fn take(&self, rows: usize, changed: usize, heads: &Heads) -> Lazy {
        let unwritten = |entry: &Entry| !matches!(entry.record, Unwritten::Nothing);
        let mut entries = Vec::new();
        for (row, instance) in self.rows.iter().take(rows) {
            // A head with a greater number is further back in the tail; a change of the record may have been made by this very row.
            let wanted = |entry: &Entry| !entry.written && (entry.head.row == *row || unwritten(entry));
            entries.extend(heads.entry_if(*instance, wanted).map(|entry| (*instance, entry)));
        }
        for (_, instance) in self.changed.iter().take(changed) {
            let wanted = |entry: &Entry| !entry.written && (entry.mark != Mark::Unsettled || unwritten(entry));
            entries.extend(heads.entry_if(*instance, wanted).map(|entry| (*instance, entry)));
        }
        // Neighbours share pages.
        entries.sort_unstable_by_key(|(instance, _)| *instance);
        entries.dedup_by_key(|(instance, _)| *instance);
        let mark = rows.checked_sub(1).and_then(|last| self.rows.get(last)).map(|(row, _)| *row);
        Lazy { entries, mark, rows, changed }
    }
}
