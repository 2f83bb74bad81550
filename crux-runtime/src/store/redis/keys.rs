//! Names. Every key begins with the base of a tag, `crux:{17}`, so that on a cluster everything a
//! script touches is in one place. Indexes are sorted sets whose scores are all 0: their order is
//! that of their members' bytes, which therefore begin with what they are ordered by. Everything is
//! text, for people with `redis-cli`:
//!
//! | key after the base | type | what it holds |
//! |---|---|---|
//! | `:instance:<id>` | hash | the record; `node`, if it is unsettled; else `wake`, its entry there; `over`, its entry there, if it has ended |
//! | `:journal:<id>` | list | the rows: `<settled> <token> <row>` |
//! | `:all`, `:status:<s>`, `:workflow:<w>:<s>`, `:owner:<o>` | index | ids |
//! | `:unsettled` | index | ids |
//! | `:wake`, `:over` | index | time and id: when to look at it, when to remove it |
//! | `:request:<scope>:<id>` | text | hash of the input, and the instance |
//! | `:waits:<event>:<value>`, `:waits_any:<event>` | index | id and path |
//! | `:event:<name>:<id>` | hash | a kept event |
//! | `:kept:<name>:<value>`, `:kept_any:<name>`, `:undelivered`, `:past` | index | number, or time, and event |
//! | `:definition:<hash>` | text | the document |
//! | `:birth` | text | the store's id, the same in all tags |
//! | `:fenced` | set | nodes that write nothing more |
//! | `:live:<id>` | channel | the number of each new row, for followers at other nodes |
//! | `:inbox:<node>` | channel | messages of other nodes |
//! | `:nodes`, `:about`, `:gone`, `:node`, `:format` | | in tag 0 only: the nodes and their leases, and the format of all this |
//!
//! Texts from outside that are not the last part of a key carry their length: `5:o'key:…`.

use crate::id::{InstanceId, partition_of};
use crate::machine::Time;
use crate::store::NodeNumber;

/// How many tags there are. Enough to spread over masters; what has to be gathered from all of them
/// takes a command for each. Part of the format.
pub(super) const TAGS: u16 = 256;

/// Digits of a time in milliseconds at the beginning of an index's member.
const TIME_DIGITS: usize = 15;

/// The bases of all tags.
#[derive(Debug)]
pub(super) struct Keys {
    bases: Vec<String>,
}

impl Keys {
    pub fn new(prefix: &str) -> Self {
        Self { bases: (0..TAGS).map(|tag| format!("{prefix}:{{{tag}}}")).collect() }
    }

    pub fn all(&self) -> &[String] {
        &self.bases
    }

    /// The tag of the node registry and of the format.
    pub fn registry(&self) -> &str {
        self.of_partition(0)
    }

    pub fn of_instance(&self, instance: InstanceId) -> &str {
        self.of_partition(instance.partition())
    }

    /// Of an event, by name: ids are unique per name, and one script sees all that belongs to it.
    /// Of a definition, by hash.
    pub fn of_text(&self, text: &str) -> &str {
        self.of_partition(partition_of(text))
    }

    /// Where a node is written to.
    pub fn inbox(&self, node: NodeNumber) -> String {
        let partition = u16::try_from(node % u64::from(TAGS)).unwrap_or_default();
        format!("{}:inbox:{node}", self.of_partition(partition))
    }

    /// The channel of an instance's new rows.
    pub fn live(&self, instance: InstanceId) -> String {
        format!("{}:live:{instance}", self.of_instance(instance))
    }

    fn of_partition(&self, partition: u16) -> &str {
        &self.bases[usize::from(partition % TAGS)]
    }
}

/// A text inside a key or a member: `4:paid`.
pub(super) fn part(text: &str) -> String {
    format!("{}:{text}", text.len())
}

/// The text that [`part`] has written, and what follows it.
pub(super) fn split_part(joined: &str) -> Option<(&str, &str)> {
    let (length, rest) = joined.split_once(':')?;
    rest.split_at_checked(length.parse().ok()?)
}

/// Ordered as times are. Those before 1970 are now as far as waiting is concerned.
pub(super) fn digits(time: Time) -> String {
    const LAST: i64 = 999_999_999_999_999;
    format!("{:0TIME_DIGITS$}", time.0.clamp(0, LAST))
}

/// An entry of `:wake` and `:over`.
pub(super) fn timed(time: Time, instance: InstanceId) -> String {
    format!("{}:{instance}", digits(time))
}

pub(super) fn split_timed(member: &str) -> Option<(Time, InstanceId)> {
    let (time, instance) = member.split_once(':')?;
    Some((Time(time.parse().ok()?), instance.parse().ok()?))
}

/// The event that an entry of `:undelivered` or `:past` is about: a number or a time comes before
/// it.
pub(super) fn split_event(member: &str) -> Option<(&str, &str)> {
    let (_, event) = member.split_once(':')?;
    let (name, id) = split_part(event)?;
    Some((name, id.strip_prefix(':')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_joined_is_split_again() {
        let id = InstanceId::new(Time(1_764_000_000_000), [7; 10], None);
        assert_eq!(split_timed(&timed(Time(5), id)), Some((Time(5), id)));
        assert!(timed(Time(9), id) < timed(Time(10), id));
        let member = format!("{:016}:{}:{}", 12, part("a:b"), "é:{1}");
        assert_eq!(split_event(&member), Some(("a:b", "é:{1}")));
        assert_eq!(split_part("9:short"), None);
    }
}
