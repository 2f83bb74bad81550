//! Which deliveries to acknowledge: they finish in any order, and one acknowledgement can cover all
//! earlier ones.

use std::collections::BTreeMap;

/// Delivery tags of one channel: 1, 2, 3, ….
#[derive(Debug)]
pub(super) struct Acks {
    /// All tags below it are acknowledged.
    next: u64,
    /// Those from there on that are done, and whether they have been acknowledged by themselves.
    done: BTreeMap<u64, bool>,
    waiting: usize,
}

impl Acks {
    pub(super) fn new() -> Self {
        Self { next: 1, done: BTreeMap::new(), waiting: 0 }
    }

    pub(super) fn done(&mut self, tag: u64) {
        if self.done.insert(tag, false).is_none() {
            self.waiting += 1;
        }
    }

    /// How many are done and not acknowledged.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Of those done without a gap the last that is not acknowledged yet: one acknowledgement
    /// covers them all.
    pub(super) fn together(&mut self) -> Option<u64> {
        let mut last = None;
        while let Some(is_acknowledged) = self.done.remove(&self.next) {
            if !is_acknowledged {
                // The broker refuses a tag that it does not know any more, also as the last of
                // many.
                last = Some(self.next);
                self.waiting -= 1;
            }
            self.next += 1;
        }
        last
    }

    /// Those behind a gap: something before them takes long, and they must not use up the prefetch
    /// meanwhile.
    pub(super) fn single(&mut self) -> Vec<u64> {
        let waiting = self.done.iter_mut().filter(|(_, is_acknowledged)| !**is_acknowledged);
        let tags = waiting.map(|(tag, is_acknowledged)| {
            *is_acknowledged = true;
            *tag
        });
        let tags: Vec<u64> = tags.collect();
        self.waiting -= tags.len();
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_acknowledgement_covers_all_without_a_gap() {
        let mut acks = Acks::new();
        [2, 1, 4].into_iter().for_each(|tag| acks.done(tag));
        assert_eq!((acks.waiting(), acks.together(), acks.waiting()), (3, Some(2), 1));
        assert_eq!(acks.together(), None);
        acks.done(3);
        assert_eq!((acks.together(), acks.waiting()), (Some(4), 0));
    }

    #[test]
    fn what_waits_behind_a_slow_one_is_acknowledged_by_itself_and_only_once() {
        let mut acks = Acks::new();
        [2, 3, 5].into_iter().for_each(|tag| acks.done(tag));
        assert_eq!((acks.together(), acks.single(), acks.waiting()), (None, vec![2, 3, 5], 0));
        assert!(acks.single().is_empty());
        // 1 to 3: only 1 is still unknown to the broker.
        acks.done(1);
        assert_eq!(acks.together(), Some(1));
        acks.done(4);
        assert_eq!(acks.together(), Some(4));
        acks.done(6);
        assert_eq!((acks.together(), acks.waiting()), (Some(6), 0));
    }
}
