//! Which records the committer still has to write, and when. Rows after the checkpoint mark
//! (`meta.mark`) are the journal's tail: recovery reads it to find what records do not hold, so it
//! is kept short, by flushing the instances at its beginning. Most of them have ended by then and
//! are written once in their lives.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::id::InstanceId;
use crate::store::sqlite::unflushed::{Unflushed, UnflushedEntry, UnflushedRecord, UnsettledFlag};

/// Rows that a restart may have to read.
const TAIL_ROWS_MAX: usize = 65_536;

/// Rows that leave the tail together: more than one group adds, so that the tail does not grow
/// under load.
const TAIL_CHUNK: usize = 2_048;

/// Instances flushed together, in the transaction of a group, which waits for them.
const CHUNK: usize = 256;

/// For settled instances. Younger changes are left alone, because an event may unsettle the
/// instance again; `behind` says how stale a record may be for a person who looks into the file.
/// Waiting a little longer flushes many changes together, which share pages.
const SETTLED_DELAYS: Delays =
    Delays { young: Duration::from_millis(300), behind: Duration::from_millis(600) };

/// For unsettled instances: most of them end meanwhile and are written once in their lives.
const UNSETTLED_DELAYS: Delays =
    Delays { young: Duration::from_millis(1_500), behind: Duration::from_millis(2_000) };

#[derive(Debug)]
pub(super) struct FlushQueue {
    /// In commit order; instances are there once per row.
    rows: VecDeque<(i64, InstanceId)>,
    resting: Behind,
    moving: Behind,
}

#[derive(Debug)]
struct Delays {
    young: Duration,
    behind: Duration,
}

/// Instances whose unsettled flag or record changed, and since when.
#[derive(Debug)]
struct Behind {
    since: VecDeque<(Instant, InstanceId)>,
    delays: Delays,
    /// Whether there was more to write than one transaction should.
    catching_up: bool,
}

impl Behind {
    fn new(delays: Delays) -> Self {
        Self { since: VecDeque::new(), delays, catching_up: false }
    }

    fn next(&self) -> Option<Instant> {
        let delay = if self.catching_up { self.delays.young } else { self.delays.behind };
        self.since.front().map(|(at, _)| *at + delay)
    }

    /// How many are to be written now.
    fn due(&self, now: Instant) -> usize {
        match self.next() {
            Some(next) if next <= now => self
                .since
                .iter()
                .take(CHUNK)
                .take_while(|(at, _)| *at + self.delays.young <= now)
                .count(),
            _ => 0,
        }
    }

    fn written(&mut self, count: usize) {
        self.since.drain(..count);
        self.catching_up = count == CHUNK;
    }
}

impl Default for FlushQueue {
    fn default() -> Self {
        Self {
            rows: VecDeque::new(),
            resting: Behind::new(SETTLED_DELAYS),
            moving: Behind::new(UNSETTLED_DELAYS),
        }
    }
}

/// What is to be flushed now.
#[derive(Debug, Default)]
pub(super) struct FlushBatch {
    pub entries: Vec<(InstanceId, UnflushedEntry)>,
    /// Records hold all of the rows up to this one then.
    pub mark: Option<i64>,
    rows: usize,
    resting: usize,
    moving: usize,
}

impl FlushBatch {
    pub fn is_empty(&self) -> bool {
        (self.rows, self.resting, self.moving) == (0, 0, 0)
    }
}

impl FlushQueue {
    pub fn appended(&mut self, row: i64, instance: InstanceId) {
        self.rows.push_back((row, instance));
    }

    /// Its unsettled flag or record changed. `rests`: it is settled.
    pub fn changed(&mut self, now: Instant, instance: InstanceId, rests: bool) {
        let behind = if rests { &mut self.resting } else { &mut self.moving };
        behind.since.push_back((now, instance));
    }

    /// When there will be something to write though nothing is appended.
    pub fn next(&self) -> Option<Instant> {
        [&self.resting, &self.moving].into_iter().filter_map(Behind::next).min()
    }

    /// What has to be written now.
    pub fn due(&self, now: Instant, unflushed: &Unflushed) -> FlushBatch {
        let rows = if self.rows.len() >= TAIL_ROWS_MAX + TAIL_CHUNK { TAIL_CHUNK } else { 0 };
        self.take(rows, self.resting.due(now), self.moving.due(now), unflushed)
    }

    /// Everything.
    pub fn all(&self, unflushed: &Unflushed) -> FlushBatch {
        self.take(self.rows.len(), self.resting.since.len(), self.moving.since.len(), unflushed)
    }

    /// Forgets what has been written.
    pub fn written(&mut self, lazy: &FlushBatch) {
        self.rows.drain(..lazy.rows);
        self.resting.written(lazy.resting);
        self.moving.written(lazy.moving);
    }

    fn take(
        &self,
        rows: usize,
        resting: usize,
        moving: usize,
        unflushed: &Unflushed,
    ) -> FlushBatch {
        let unwritten = |entry: &UnflushedEntry| !matches!(entry.record, UnflushedRecord::Nothing);
        let mut entries = Vec::new();
        for (row, instance) in self.rows.iter().take(rows) {
            // A head with a greater number is further back in the tail; a change of the record may
            // have been made by this very row.
            let wanted = |entry: &UnflushedEntry| {
                !entry.written && (entry.head.row == *row || unwritten(entry))
            };
            entries.extend(unflushed.entry_if(*instance, wanted).map(|entry| (*instance, entry)));
        }
        for (_, instance) in
            self.resting.since.iter().take(resting).chain(self.moving.since.iter().take(moving))
        {
            let wanted = |entry: &UnflushedEntry| {
                !entry.written && (entry.mark != UnsettledFlag::Unsettled || unwritten(entry))
            };
            entries.extend(unflushed.entry_if(*instance, wanted).map(|entry| (*instance, entry)));
        }
        // Adjacent rows share pages.
        entries.sort_unstable_by_key(|(instance, _)| *instance);
        entries.dedup_by_key(|(instance, _)| *instance);
        let mark = rows.checked_sub(1).and_then(|last| self.rows.get(last)).map(|(row, _)| *row);
        FlushBatch { entries, mark, rows, resting, moving }
    }
}
