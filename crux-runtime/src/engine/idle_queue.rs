//! Idle instances in the order in which they became idle: those that are evicted first. The entry
//! of an instance that becomes active again is not removed: its ticket is no longer valid.

use std::collections::VecDeque;

use crate::id::InstanceId;

/// Says which place in the queue an instance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdleTicket(u64);

#[derive(Debug, Default)]
pub(super) struct IdleQueue {
    queue: VecDeque<(InstanceId, IdleTicket)>,
    last: u64,
}

impl IdleQueue {
    /// The instance keeps the ticket as long as its place counts.
    pub(super) fn push(&mut self, id: InstanceId) -> IdleTicket {
        self.last += 1;
        let ticket = IdleTicket(self.last);
        self.queue.push_back((id, ticket));
        ticket
    }

    /// The first in the queue, if there are more than `limit`.
    pub(super) fn pop_beyond(&mut self, limit: usize) -> Option<(InstanceId, IdleTicket)> {
        if self.queue.len() > limit { self.queue.pop_front() } else { None }
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_leave_first_and_only_beyond_the_limit() {
        let mut idle = IdleQueue::default();
        let ids = [1, 2, 3].map(|byte| InstanceId([byte; 16]));
        let tickets = ids.map(|id| idle.push(id));
        assert_eq!(idle.pop_beyond(2), Some((ids[0], tickets[0])));
        assert_eq!(idle.pop_beyond(2), None);
        assert_ne!(idle.push(ids[1]), tickets[1], "a new place has a new ticket");
    }
}
