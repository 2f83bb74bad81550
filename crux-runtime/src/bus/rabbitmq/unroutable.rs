//! Finds mandatory messages that reached no queue. The broker returns such a message before it
//! confirms it, but lapin attaches it to whichever confirm completes next; so a confirm proves that
//! its own message was routed only when no returned message is waiting.
//!
//! In the order in which confirms complete: a confirm without a returned message found none
//! waiting, so all messages returned before it, its own included, were attached to earlier
//! confirms.

use std::collections::HashSet;

/// The broker's outcome for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Routing {
    /// Some queue has it.
    Routed,
    /// No queue is bound to its routing key.
    Unroutable,
    /// A queue rejected it.
    Rejected,
}

/// Confirms of one channel, in the order of their completion.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// Message ids that came back and whose own confirm has not been judged.
    returned: HashSet<String>,
    /// Confirmed, and not yet sure what that means.
    unsure: Vec<(u64, String, bool)>,
}

impl Returns {
    /// The confirm of message `n` has completed; `carried` is the id of the message that came with
    /// it, `is_last` whether no other is on its way. Adds to `known` what is known now.
    pub(super) fn confirmed(
        &mut self,
        (n, id, is_ack): (u64, &str, bool),
        carried: Option<String>,
        is_last: bool,
        known: &mut Vec<(u64, Routing)>,
    ) {
        let nothing_waits = carried.is_none() || is_last;
        self.returned.extend(carried);
        if nothing_waits && self.returned.is_empty() && self.unsure.is_empty() {
            known.push((n, if is_ack { Routing::Routed } else { Routing::Rejected }));
            return;
        }
        self.unsure.push((n, id.to_owned(), is_ack));
        let returned = &mut self.returned;
        self.unsure.retain(|(n, id, is_ack)| {
            if returned.remove(id) {
                known.push((*n, Routing::Unroutable));
            } else if nothing_waits {
                known.push((*n, if *is_ack { Routing::Routed } else { Routing::Rejected }));
            } else {
                return true;
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Confirms in this order, each with what it carries; `true` marks the last.
    fn judged(confirms: &[(u64, Option<u64>, bool)]) -> Vec<(u64, Routing)> {
        let mut returns = Returns::default();
        let mut known = Vec::new();
        for (n, carried, is_last) in confirms {
            returns.confirmed(
                (*n, &n.to_string(), true),
                carried.map(|n| n.to_string()),
                *is_last,
                &mut known,
            );
        }
        known.sort_by_key(|(n, _)| *n);
        known
    }

    use Routing::{Routed, Unroutable};

    #[test]
    fn a_confirm_that_carries_nothing_is_an_arrival() {
        assert_eq!(judged(&[(1, None, false), (2, None, true)]), [(1, Routed), (2, Routed)]);
    }

    #[test]
    fn a_confirm_that_carries_its_own_message_is_a_return() {
        assert_eq!(judged(&[(1, Some(1), false), (2, None, true)]), [(1, Unroutable), (2, Routed)]);
    }

    #[test]
    fn confirms_that_carry_each_others_messages_are_distinguished() {
        // One confirm of the broker for 1 to 3, of which 2 and 3 came back; lapin completes them as
        // 1, 3, 2.
        assert_eq!(
            judged(&[(1, Some(2), false), (3, Some(3), false), (2, None, true)]),
            [(1, Routed), (2, Unroutable), (3, Unroutable)]
        );
        // 1 and 3 came back, 2 arrived; completed as 1, 2, 3.
        assert_eq!(
            judged(&[(1, Some(3), false), (2, Some(1), false), (3, None, true)]),
            [(1, Unroutable), (2, Routed), (3, Unroutable)]
        );
        // All came back, each with another's confirm, and nothing more is in flight.
        assert_eq!(
            judged(&[(1, Some(2), false), (2, Some(1), true)]),
            [(1, Unroutable), (2, Unroutable)]
        );
    }

    #[test]
    fn one_that_carries_anothers_message_is_not_judged_before_it_is_sure() {
        assert_eq!(judged(&[(1, Some(2), false)]), []);
        assert_eq!(judged(&[(1, Some(2), false), (2, Some(9), false)]), [(2, Unroutable)]);
    }

    #[test]
    fn a_refusal_stays_one_whatever_it_carries() {
        let (mut returns, mut known) = (Returns::default(), Vec::new());
        returns.confirmed((1, "1", false), Some("2".to_owned()), false, &mut known);
        returns.confirmed((2, "2", true), None, true, &mut known);
        assert_eq!(known, [(1, Routing::Rejected), (2, Unroutable)]);
    }
}
