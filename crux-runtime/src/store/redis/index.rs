//! Merges the indexes of all tags: a few entries of each are read at a time, and the smallest head
//! is taken repeatedly. The work for a page grows with the page and the number of tags, not with
//! what is stored.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use redis::{Cmd, Value};

use super::Shared;
use super::error::unreadable;
use super::foreign::Foreign;
use crate::redis_client as server;
use crate::redis_client::RedisClient;
use crate::store::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Rising,
    Falling,
}

/// Which entries of each index.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub order: Order,
    /// Only those that come later in this order than that one.
    pub after: Option<String>,
    /// Of a rising range: only those less than that.
    pub below: Option<String>,
    pub limit: usize,
}

/// The entries, each with the number of its index.
pub(super) async fn merge(
    link: &RedisClient,
    keys: &[String],
    range: &Range,
) -> Result<Vec<(usize, String)>, Error> {
    merge_with(link, keys, range, None).await
}

/// As [`merge`], of what there is in every tag: where foreign data was written that is
/// no index, only that one is left out.
pub(super) async fn merge_all(
    shared: &Shared,
    keys: &[String],
    range: &Range,
) -> Result<Vec<(usize, String)>, Error> {
    merge_with(&shared.link, keys, range, Some(&shared.foreign)).await
}

async fn merge_with(
    link: &RedisClient,
    keys: &[String],
    range: &Range,
    foreign: Option<&Foreign>,
) -> Result<Vec<(usize, String)>, Error> {
    let mut found = Vec::new();
    if keys.is_empty() || range.limit == 0 {
        return Ok(found);
    }
    let step = range.limit.min(100_000) / keys.len() * 2 + 4;
    let mut sources: Vec<Source<'_>> =
        keys.iter().map(|key| Source::new(key, range, step)).collect();
    loop {
        fill(link, &mut sources, range, foreign).await?;
        let mut heads: BinaryHeap<Reverse<Head>> = BinaryHeap::with_capacity(sources.len());
        for (n, source) in sources.iter_mut().enumerate() {
            heads.extend(source.next(n, range.order).map(Reverse));
        }
        loop {
            let Some(Reverse(Head { entry, source, order })) = heads.pop() else {
                return Ok(found);
            };
            found.push((source, entry));
            if found.len() == range.limit {
                return Ok(found);
            }
            if let Some(head) = sources[source].next(source, order) {
                heads.push(Reverse(head));
            } else if !sources[source].ended {
                // What comes next is not known before it has been read; the other heads go back.
                for Reverse(head) in heads {
                    sources[head.source].read.push_front(head.entry);
                }
                break;
            }
        }
    }
}

struct Source<'k> {
    key: &'k str,
    read: VecDeque<String>,
    /// The last one that was read.
    cursor: Option<String>,
    ended: bool,
    step: usize,
}

impl<'k> Source<'k> {
    fn new(key: &'k str, range: &Range, step: usize) -> Self {
        Self { key, read: VecDeque::new(), cursor: range.after.clone(), ended: false, step }
    }

    fn next(&mut self, source: usize, order: Order) -> Option<Head> {
        self.read.pop_front().map(|entry| Head { entry, source, order })
    }

    fn command(&self, range: &Range) -> Cmd {
        let beyond = |bound: &Option<String>, none: &str| {
            bound.as_ref().map_or_else(|| none.to_owned(), |bound| format!("({bound}"))
        };
        let mut command = match range.order {
            Order::Rising => redis::cmd("ZRANGEBYLEX"),
            Order::Falling => redis::cmd("ZREVRANGEBYLEX"),
        };
        command.arg(self.key);
        match range.order {
            Order::Rising => command.arg(beyond(&self.cursor, "-")).arg(beyond(&range.below, "+")),
            Order::Falling => command.arg(beyond(&self.cursor, "+")).arg("-"),
        };
        command.arg("LIMIT").arg(0).arg(self.step);
        command
    }
}

async fn fill(
    link: &RedisClient,
    sources: &mut [Source<'_>],
    range: &Range,
    foreign: Option<&Foreign>,
) -> Result<(), Error> {
    let mut empty: Vec<&mut Source<'_>> =
        sources.iter_mut().filter(|source| source.read.is_empty() && !source.ended).collect();
    let commands = empty.iter().map(|source| source.command(range)).collect();
    for (source, answer) in empty.iter_mut().zip(link.ask_each(commands).await?) {
        if let (Err(server::Error::WrongType(why)), Some(foreign)) = (&answer, foreign) {
            foreign.found(source.key, why);
            source.ended = true;
            continue;
        }
        source.read = entries(answer?)?;
        source.ended = source.read.len() < source.step;
        source.step *= 2;
        if let Some(last) = source.read.back() {
            source.cursor = Some(last.clone());
        }
    }
    Ok(())
}

fn entries(answer: Value) -> Result<VecDeque<String>, Error> {
    redis::from_redis_value::<Vec<String>>(answer)
        .map(VecDeque::from)
        .map_err(|_| unreadable("an index"))
}

#[derive(PartialEq, Eq)]
struct Head {
    entry: String,
    source: usize,
    order: Order,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let rising = self.entry.cmp(&other.entry).then(self.source.cmp(&other.source));
        if self.order == Order::Rising { rising } else { rising.reverse() }
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
