//! The timers of a shard's instances, in memory and evicted. Each instance has one valid timer, in
//! its state or among the evicted ones. Outdated timers stay in the heap until they are due and are
//! ignored then, because removing them would cost more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::id::{InstanceId, InstanceMap};
use crate::machine::Time;

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Time, InstanceId)>>,
    /// Of instances that are not in memory.
    evicted: InstanceMap<Time>,
}

impl Timers {
    pub(super) fn next_due(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// Sets a timer of an instance in memory, which remembers it.
    pub(super) fn set(&mut self, id: InstanceId, due: Time) {
        self.heap.push(Reverse((due, id)));
    }

    /// Sets a timer of an instance that is not in memory, unless it has an earlier one.
    pub(super) fn set_evicted(&mut self, id: InstanceId, due: Time) {
        if self.evicted.get(&id).is_none_or(|timer| due < *timer) {
            self.evicted.insert(id, due);
            self.set(id, due);
        }
    }

    /// The instance leaves memory, and its timer stays.
    pub(super) fn keep_evicted(&mut self, id: InstanceId, due: Time) {
        self.evicted.insert(id, due);
    }

    /// The instance is in memory, or is being loaded.
    pub(super) fn forget_evicted(&mut self, id: InstanceId) {
        self.evicted.remove(&id);
    }

    /// Whether this was the timer of an instance that is not in memory; it is over then.
    pub(super) fn fire_evicted(&mut self, id: InstanceId, due: Time) -> bool {
        let counts = self.evicted.get(&id) == Some(&due);
        if counts {
            self.evicted.remove(&id);
        }
        counts
    }

    /// The next timer that is due, which may not count any more.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<(Time, InstanceId)> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| timer)
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
        self.evicted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: InstanceId = InstanceId([1; 16]);
    const B: InstanceId = InstanceId([2; 16]);

    #[test]
    fn timers_fire_in_order_and_only_when_they_are_due() {
        let mut timers = Timers::default();
        timers.set(A, Time(30));
        timers.set_evicted(B, Time(20));
        assert_eq!(timers.next_due(), Some(Time(20)));
        assert_eq!(timers.pop_due(Time(19)), None);
        assert_eq!(timers.pop_due(Time(30)), Some((Time(20), B)));
        assert!(timers.fire_evicted(B, Time(20)) && !timers.fire_evicted(B, Time(20)));
        assert_eq!(timers.pop_due(Time(30)), Some((Time(30), A)));
        assert_eq!(timers.pop_due(Time(99)), None);
    }

    #[test]
    fn of_an_evicted_instance_only_the_earliest_timer_counts() {
        let mut timers = Timers::default();
        timers.keep_evicted(A, Time(50));
        timers.set_evicted(A, Time(60));
        assert_eq!(timers.next_due(), None, "it has an earlier one");
        timers.set_evicted(A, Time(40));
        assert!(!timers.fire_evicted(A, Time(50)) && timers.fire_evicted(A, Time(40)));
        timers.keep_evicted(A, Time(70));
        timers.forget_evicted(A);
        assert!(!timers.fire_evicted(A, Time(70)), "it is in memory");
    }
}
