//! What the committer still has to write into records, and when. Rows after the mark are the
//! journal's tail: a restart reads it to find what records do not hold, so it is kept short, by
//! writing what is unwritten of the instances at its beginning. Most of them have ended by then and
//! are written once in their lives.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::id::InstanceId;
use crate::store::sqlite::unflushed::{Entry, Heads, Mark, Unwritten};

/// Rows that a restart may have to read.
const TAIL_ROWS: usize = 65_536;

/// Rows that leave the tail at once: more than one group adds, so that the tail does not grow under
/// load.
const TAIL_CHUNK: usize = 2_048;

/// Instances written at once, in the transaction of a group, which waits for them.
const CHUNK: usize = 256;

/// Of instances that have ended or come to rest. What is younger than the first is left alone, for
/// an event may set the instance going again; the second says how far records may be behind, as a
/// person sees them who looks into the file. Waiting a little longer makes many changes at once,
/// which share pages.
const RESTING: Delays =
    Delays { young: Duration::from_millis(300), behind: Duration::from_millis(600) };

/// Of instances that go on: most of them end meanwhile and are written once in their lives.
const MOVING: Delays =
    Delays { young: Duration::from_millis(1_500), behind: Duration::from_millis(2_000) };

#[derive(Debug)]
pub(super) struct Tail {
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

/// Instances whose mark or record has changed, and since when.
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

impl Default for Tail {
    fn default() -> Self {
        Self { rows: VecDeque::new(), resting: Behind::new(RESTING), moving: Behind::new(MOVING) }
    }
}

/// What is to be written now.
#[derive(Debug, Default)]
pub(super) struct Lazy {
    pub entries: Vec<(InstanceId, Entry)>,
    /// Records hold all of the rows up to this one then.
    pub mark: Option<i64>,
    rows: usize,
    resting: usize,
    moving: usize,
}

impl Lazy {
    pub fn is_empty(&self) -> bool {
        (self.rows, self.resting, self.moving) == (0, 0, 0)
    }
}

impl Tail {
    pub fn appended(&mut self, row: i64, instance: InstanceId) {
        self.rows.push_back((row, instance));
    }

    /// Its mark or its record. `rests`: nothing more is expected soon.
    pub fn changed(&mut self, now: Instant, instance: InstanceId, rests: bool) {
        let behind = if rests { &mut self.resting } else { &mut self.moving };
        behind.since.push_back((now, instance));
    }

    /// When there will be something to write though nothing is appended.
    pub fn next(&self) -> Option<Instant> {
        [&self.resting, &self.moving].into_iter().filter_map(Behind::next).min()
    }

    /// What has to be written now.
    pub fn due(&self, now: Instant, heads: &Heads) -> Lazy {
        let rows = if self.rows.len() >= TAIL_ROWS + TAIL_CHUNK { TAIL_CHUNK } else { 0 };
        self.take(rows, self.resting.due(now), self.moving.due(now), heads)
    }

    /// Everything.
    pub fn all(&self, heads: &Heads) -> Lazy {
        self.take(self.rows.len(), self.resting.since.len(), self.moving.since.len(), heads)
    }

    /// Forgets what has been written.
    pub fn written(&mut self, lazy: &Lazy) {
        self.rows.drain(..lazy.rows);
        self.resting.written(lazy.resting);
        self.moving.written(lazy.moving);
    }

    fn take(&self, rows: usize, resting: usize, moving: usize, heads: &Heads) -> Lazy {
        let unwritten = |entry: &Entry| !matches!(entry.record, Unwritten::Nothing);
        let mut entries = Vec::new();
        for (row, instance) in self.rows.iter().take(rows) {
            // A head with a greater number is further back in the tail; a change of the record may
            // have been made by this very row.
            let wanted =
                |entry: &Entry| !entry.written && (entry.head.row == *row || unwritten(entry));
            entries.extend(heads.entry_if(*instance, wanted).map(|entry| (*instance, entry)));
        }
        for (_, instance) in
            self.resting.since.iter().take(resting).chain(self.moving.since.iter().take(moving))
        {
            let wanted = |entry: &Entry| {
                !entry.written && (entry.mark != Mark::Unsettled || unwritten(entry))
            };
            entries.extend(heads.entry_if(*instance, wanted).map(|entry| (*instance, entry)));
        }
        // Neighbours share pages.
        entries.sort_unstable_by_key(|(instance, _)| *instance);
        entries.dedup_by_key(|(instance, _)| *instance);
        let mark = rows.checked_sub(1).and_then(|last| self.rows.get(last)).map(|(row, _)| *row);
        Lazy { entries, mark, rows, resting, moving }
    }
}
