//! Unsettled instances by owner node, due instances, and those past their retention.

use std::collections::BTreeMap;

use super::Shared;
use super::events;
use crate::id::InstanceId;
use crate::machine::Time;
use crate::redis_client::Call;
use crate::store::redis::error::unreadable;
use crate::store::redis::index::{Order, Range, merge_all};
use crate::store::redis::keys::{digits, split_event, split_timed, timed};
use crate::store::redis::scripts::{CLAIM, REMOVE, SETTLE};
use crate::store::{Error, Settled};

pub(super) async fn settle(shared: &Shared, batch: Vec<Settled>) -> Result<(), Error> {
    let mut by_tag: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for Settled { instance, seq, wake_at } in batch {
        let wake = wake_at.map_or_else(String::new, |at| timed(at, instance));
        let args = by_tag.entry(shared.keys.of_instance(instance)).or_default();
        args.extend([instance.to_string(), seq.to_string(), wake].map(String::into_bytes));
    }
    let calls = by_tag.into_iter().map(|(base, args)| Call {
        script: &SETTLE,
        base: base.to_owned(),
        args,
    });
    Ok(shared
        .link
        .call_all(calls.collect())
        .await
        .into_iter()
        .try_for_each(|result| result.map(drop))?)
}

pub(super) async fn unsettled(
    shared: &Shared,
    after: Option<InstanceId>,
    limit: usize,
) -> Result<Vec<InstanceId>, Error> {
    let range =
        Range { order: Order::Rising, after: after.map(|id| id.to_string()), below: None, limit };
    let found = merge_all(shared, &everywhere(shared, "unsettled"), &range).await?;
    found.into_iter().map(|(_, id)| id.parse().map_err(|_| unreadable("a mark"))).collect()
}

pub(super) async fn due(
    shared: &Shared,
    after: Option<(Time, InstanceId)>,
    until: Time,
    limit: usize,
) -> Result<Vec<(Time, InstanceId)>, Error> {
    let after = after.map(|(at, id)| timed(at, id));
    let range = Range { order: Order::Rising, after, below: Some(digits(until.plus_ms(1))), limit };
    let found = merge_all(shared, &everywhere(shared, "wake"), &range).await?;
    found
        .into_iter()
        .map(|(_, wake)| split_timed(&wake).ok_or_else(|| unreadable("a wake-up")))
        .collect()
}

/// Makes those this node's own that no other living node carries.
pub(super) async fn claim(
    shared: &Shared,
    batch: Vec<InstanceId>,
) -> Result<Vec<InstanceId>, Error> {
    let (node, known) = (shared.node.number()?, shared.node.known());
    let mut head: Vec<Vec<u8>> =
        [node, known.newest].map(|number| number.to_string().into_bytes()).into();
    head.push(known.live.len().to_string().into_bytes());
    head.extend(known.live.iter().map(|live| live.to_string().into_bytes()));
    let definitions = shared.node.definitions();
    head.push(definitions.len().to_string().into_bytes());
    head.extend(definitions.into_iter().map(String::into_bytes));
    let mut by_tag: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for instance in &batch {
        by_tag
            .entry(shared.keys.of_instance(*instance))
            .or_insert_with(|| head.clone())
            .push(instance.to_string().into_bytes());
    }
    let calls =
        by_tag.into_iter().map(|(base, args)| Call { script: &CLAIM, base: base.to_owned(), args });
    let mut claimed = std::collections::BTreeSet::new();
    for answer in shared.link.call_all(calls.collect()).await {
        let ids: Vec<String> =
            redis::from_redis_value(answer?).map_err(|_| unreadable("a claim"))?;
        for id in ids {
            claimed.insert(id.parse::<InstanceId>().map_err(|_| unreadable("a claim"))?);
        }
    }
    Ok(batch.into_iter().filter(|instance| claimed.contains(instance)).collect())
}

pub(super) async fn expire(shared: &Shared, now: Time, limit: usize) -> Result<usize, Error> {
    let range =
        Range { order: Order::Rising, after: None, below: Some(digits(now.plus_ms(1))), limit };
    let events = merge_all(shared, &everywhere(shared, "past"), &range).await?;
    let events: Vec<(&str, &str, &str)> = events
        .iter()
        .map(|(_, member)| {
            split_event(member)
                .map(|(name, id)| (member.as_str(), name, id))
                .ok_or_else(|| unreadable("an event"))
        })
        .collect::<Result<_, _>>()?;
    events::forget(shared, &events).await?;

    let over = merge_all(shared, &everywhere(shared, "over"), &range).await?;
    let mut by_tag: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for (_, member) in &over {
        let (_, instance) =
            split_timed(member).ok_or_else(|| unreadable("an instance that is over"))?;
        let args = by_tag
            .entry(shared.keys.of_instance(instance))
            .or_insert_with(|| vec![digits(now).into_bytes()]);
        args.push(instance.to_string().into_bytes());
    }
    let calls = by_tag.into_iter().map(|(base, args)| Call {
        script: &REMOVE,
        base: base.to_owned(),
        args,
    });
    let mut count = 0;
    for answer in shared.link.call_all(calls.collect()).await {
        count += redis::from_redis_value::<usize>(answer?).map_err(|_| unreadable("a count"))?;
    }
    Ok(count)
}

/// The index of that name in each tag.
pub(super) fn everywhere(shared: &Shared, index: &str) -> Vec<String> {
    shared.keys.all().iter().map(|base| format!("{base}:{index}")).collect()
}
