//! How much of an instance's journal counts against its limits. Rows of finished elements and
//! rounds of a loop no longer count as rows, so that the limit bounds what is open, however long a
//! list is. Bytes always count: all of them are read when the instance is loaded.

use std::collections::{BTreeMap, BTreeSet};

use super::Options;
use crate::machine::{Event, Instance, Path};

/// What an element or round that takes no time takes in documents, beyond its notes.
const PASS_BYTES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct JournalSize {
    pub(super) rows: u32,
    pub(super) bytes: usize,
    /// Rows of elements and rounds that are open, as far as they are known to be about nothing
    /// else.
    open: BTreeMap<Pass, u32>,
}

/// One element or round: its loop, and its number after those of the loops around.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pass {
    node: u16,
    at: Vec<u32>,
}

impl Pass {
    /// The innermost one around a step.
    fn around(path: &Path, instance: &dyn Instance) -> Option<Self> {
        let at = path.at.as_slice();
        let node = instance.definition().loop_at(path, at.len())?;
        Some(Self { node, at: at.to_vec() })
    }

    fn is_around(&self, path: &Path, instance: &dyn Instance) -> bool {
        path.at.as_slice().starts_with(&self.at)
            && instance.definition().loop_at(path, self.at.len()) == Some(self.node)
    }
}

impl JournalSize {
    pub(super) fn is_full(&self, limits: &Options) -> bool {
        self.rows >= limits.max_journal_rows || self.bytes >= limits.max_journal_bytes
    }

    /// Four fifths of a limit.
    pub(super) fn is_nearly_full(&self, limits: &Options) -> bool {
        self.rows >= limits.max_journal_rows / 5 * 4
            || self.bytes >= limits.max_journal_bytes / 5 * 4
    }

    /// For people: what there is, and what the limits are.
    pub(super) fn against(&self, limits: &Options) -> String {
        let Options { max_journal_rows, max_journal_bytes, .. } = limits;
        format!(
            "it has {} rows about what is open (`limits.max_journal_events` is {max_journal_rows}) and {} bytes (`limits.max_journal_size` is \
             {max_journal_bytes})",
            self.rows, self.bytes
        )
    }

    /// One more row, of these events and that many bytes, in which so many elements and rounds
    /// began. Whose row it is, for [`Self::close`].
    pub(super) fn add(
        &mut self,
        events: &[Event],
        bytes: usize,
        passes: u32,
        instance: &dyn Instance,
    ) -> Vec<Pass> {
        self.rows = self.rows.saturating_add(1);
        let passes = usize::try_from(passes).unwrap_or(usize::MAX).saturating_mul(PASS_BYTES);
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(passes);
        let mut about = Vec::new();
        for event in events {
            let pass = match event {
                Event::Step(event) if !event.path.at.is_empty() => {
                    Pass::around(&event.path, instance)
                }
                _ => None,
            };
            let Some(pass) = pass else {
                about.clear();
                break;
            };
            if !about.contains(&pass) {
                about.push(pass);
            }
        }
        // A row about several counts for one of them: it is one row.
        if let Some(pass) = about.first() {
            *self.open.entry(pass.clone()).or_default() += 1;
        }
        about
    }

    /// Rows of those of `passes` that are over count no more.
    pub(super) fn close(&mut self, passes: &[Pass], instance: &dyn Instance) {
        let mut is_open = vec![false; passes.len()];
        if passes.is_empty() {
            return;
        }
        instance.open(&mut |open| {
            let path = open.path();
            if !path.at.is_empty() {
                for (is_open, pass) in
                    is_open.iter_mut().zip(passes).filter(|(is_open, _)| !**is_open)
                {
                    *is_open = pass.is_around(&path, instance);
                }
            }
        });
        for (_, pass) in is_open.iter().zip(passes).filter(|(is_open, _)| !**is_open) {
            self.rows = self.rows.saturating_sub(self.open.remove(pass).unwrap_or(0));
        }
    }

    /// The same for all that were added, after many rows.
    pub(super) fn close_all(&mut self, instance: &dyn Instance) {
        let mut open = BTreeSet::new();
        if !self.open.is_empty() {
            instance.open(&mut |item| {
                let path = item.path();
                let around = |depth| {
                    Some((
                        instance.definition().loop_at(&path, depth)?,
                        path.at.as_slice().get(..depth)?.to_vec(),
                    ))
                };
                open.extend(
                    (1..=path.at.len()).filter_map(around).map(|(node, at)| Pass { node, at }),
                );
            });
        }
        let rows = &mut self.rows;
        self.open.retain(|pass, count| {
            let is_open = open.contains(pass);
            *rows = rows.saturating_sub(if is_open { 0 } else { *count });
            is_open
        });
    }
}
