//! Subscriptions to events, and events that are kept for later waits. Everything about one event
//! name is in one tag.

use std::collections::BTreeMap;

use redis::Cmd;

use super::Shared;
use super::error::unreadable;
use super::index::{Order, Range, merge, merge_all};
use super::keys::{part, split_event};
use super::scripts::{DELIVERED, FORGET, KEEP, KEPT};
use crate::machine::Time;
use crate::redis_client::Call;
use crate::store::redis::unsettled::everywhere;
use crate::store::{Error, KeptEvent, Subscription, UndeliveredEvent};

/// Adds entries (`ZADD`) or removes them (`ZREM`).
pub(super) async fn subscriptions(
    shared: &Shared,
    batch: Vec<Subscription>,
    add: bool,
) -> Result<(), Error> {
    let command = |subscription: Subscription| {
        let mut command = redis::cmd(if add { "ZADD" } else { "ZREM" });
        command.arg(waits_key(shared, &subscription.event, subscription.value.as_deref()));
        if add {
            command.arg(0);
        }
        command.arg(member(&subscription));
        command
    };
    Ok(shared.link.ask_all(batch.into_iter().map(command).collect()).await.map(drop)?)
}

/// First those who wait for that value, then those who wait for any; each by instance and path.
pub(super) async fn subscribers(
    shared: &Shared,
    event: &str,
    value: Option<&str>,
    after: Option<&Subscription>,
    limit: usize,
) -> Result<Vec<Subscription>, Error> {
    let mut page = Vec::new();
    let begins_with_any = after.is_some_and(|after| after.value.is_none());
    let kinds = [value.filter(|_| !begins_with_any).map(Some), Some(None)];
    for value in kinds.into_iter().flatten() {
        let after = after.filter(|after| after.value.as_deref() == value).map(member);
        let range = Range { order: Order::Rising, after, below: None, limit: limit - page.len() };
        for (_, entry) in merge(&shared.link, &[waits_key(shared, event, value)], &range).await? {
            let (instance, path) =
                entry.split_once(' ').ok_or_else(|| unreadable("a subscription"))?;
            page.push(Subscription {
                event: event.to_owned(),
                value: value.map(str::to_owned),
                instance: instance.parse().map_err(|_| unreadable("a subscription"))?,
                path: path.to_owned(),
            });
        }
    }
    Ok(page)
}

fn waits_key(shared: &Shared, event: &str, value: Option<&str>) -> String {
    let base = shared.keys.of_text(event);
    match value {
        Some(value) => format!("{base}:waits:{}:{value}", part(event)),
        None => format!("{base}:waits_any:{event}"),
    }
}

fn member(subscription: &Subscription) -> String {
    format!("{} {}", subscription.instance, subscription.path)
}

pub(super) async fn keep(shared: &Shared, batch: Vec<KeptEvent>) -> Result<Vec<bool>, Error> {
    let token = super::random()?;
    // The names' events in the order in which they came, and where each answer belongs.
    let mut by_name: BTreeMap<String, (Vec<Vec<u8>>, Vec<usize>)> = BTreeMap::new();
    let count = batch.len();
    for (n, event) in batch.into_iter().enumerate() {
        let KeptEvent { name, value, id, data, owner, traceparent, at, keep_until } = event;
        let index = value.as_deref().map_or_else(String::new, |value| value_index(&name, value));
        let (args, places) = by_name.entry(name.clone()).or_insert_with(|| {
            let replicas = if shared.replicas.is_some() { "1" } else { "0" };
            (
                vec![token.to_string().into_bytes(), part(&name).into_bytes(), replicas.into()],
                Vec::new(),
            )
        });
        let (value, at, keep_until) =
            (value.unwrap_or_default(), at.0.to_string(), keep_until.0.to_string());
        let row = [id, index, value, data, at, keep_until, owner, traceparent];
        args.extend(row.map(String::into_bytes));
        places.push(n);
    }
    let bases: Vec<&str> = by_name.keys().map(|name| shared.keys.of_text(name)).collect();
    let (args, places): (Vec<_>, Vec<_>) = by_name.values().cloned().unzip();
    let calls = args.into_iter().zip(&bases).map(|(args, base)| Call {
        script: &KEEP,
        base: (*base).to_owned(),
        args,
    });
    let before = shared.connections(&bases).await;
    let answers = shared.replicated.call_all(calls.collect()).await;
    shared.wait_for_replicas(&bases, &before).await?;
    let mut fresh = vec![false; count];
    for (answer, places) in answers.into_iter().zip(places) {
        let answers: Vec<bool> =
            redis::from_redis_value(answer?).map_err(|_| unreadable("the outcome of events"))?;
        for (n, is_new) in places.into_iter().zip(answers) {
            fresh[n] = is_new;
        }
    }
    Ok(fresh)
}

fn value_index(name: &str, value: &str) -> String {
    format!("{}:{value}", part(name))
}

pub(super) async fn kept(
    shared: &Shared,
    name: &str,
    value: Option<&str>,
    now: Time,
) -> Result<Vec<KeptEvent>, Error> {
    let index = match value {
        Some(value) => format!(":kept:{}", value_index(name, value)),
        None => format!(":kept_any:{}", part(name)),
    };
    let args = [part(name), index, now.0.to_string()].map(String::into_bytes).into();
    let answer = shared
        .link
        .call(Call { script: &KEPT, base: shared.keys.of_text(name).to_owned(), args })
        .await?;
    let wrong = || unreadable("a kept event");
    type Fields = (String, Option<String>, String, i64, i64, Option<String>, Option<String>);
    let events: Vec<Fields> = redis::from_redis_value(answer).map_err(|_| wrong())?;
    let event = |(id, value, data, at, keep_until, owner, traceparent): Fields| KeptEvent {
        name: name.to_owned(),
        value,
        id,
        data,
        // Of an event that an older binary kept: none.
        owner: owner.unwrap_or_default(),
        traceparent: traceparent.unwrap_or_default(),
        at: Time(at),
        keep_until: Time(keep_until),
    };
    Ok(events.into_iter().map(event).collect())
}

pub(super) async fn delivered(shared: &Shared, batch: Vec<(String, String)>) -> Result<(), Error> {
    let mut by_name: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, id) in batch {
        by_name.entry(name).or_default().push(id.into_bytes());
    }
    let calls = by_name.into_iter().map(|(name, mut args)| {
        args.insert(0, part(&name).into_bytes());
        Call { script: &DELIVERED, base: shared.keys.of_text(&name).to_owned(), args }
    });
    Ok(shared
        .link
        .call_all(calls.collect())
        .await
        .into_iter()
        .try_for_each(|result| result.map(drop))?)
}

/// They are there: what is not delivered does not go.
pub(super) async fn started(shared: &Shared, batch: Vec<(String, String)>) -> Result<(), Error> {
    let command = |(name, id): (String, String)| {
        let mut command = redis::cmd("HSET");
        command.arg(event_key(shared, &name, &id)).arg("started").arg(1);
        command
    };
    Ok(shared.link.ask_all(batch.into_iter().map(command).collect()).await.map(drop)?)
}

pub(super) async fn undelivered(
    shared: &Shared,
    after: Option<String>,
    limit: usize,
) -> Result<Vec<UndeliveredEvent>, Error> {
    let wrong = || unreadable("an event");
    let mut undelivered = Vec::new();
    let mut after = after;
    // Some of a page may have been delivered meanwhile: one of which nothing is left is not the
    // last one.
    while undelivered.is_empty() {
        let range = Range { order: Order::Rising, after, below: None, limit };
        let found = merge_all(shared, &everywhere(shared, "undelivered"), &range).await?;
        let events: Vec<(&str, &str)> = found
            .iter()
            .map(|(_, entry)| split_event(entry).ok_or_else(wrong))
            .collect::<Result<_, _>>()?;
        let read = |(name, id): &(&str, &str)| {
            let names = ["value", "data", "at", "keep_until", "started", "owner", "traceparent"];
            fields(shared, name, id, &names)
        };
        let answers = shared.link.ask_all(events.iter().map(read).collect()).await?;
        for (((name, id), (_, place)), answer) in events.into_iter().zip(&found).zip(answers) {
            type Text = Option<String>;
            type Fields = (Text, Text, Option<i64>, Option<i64>, Text, Text, Text);
            let (value, data, at, keep_until, started, owner, traceparent): Fields =
                redis::from_redis_value(answer).map_err(|_| wrong())?;
            if let (Some(data), Some(at), Some(keep_until)) = (data, at, keep_until) {
                let event = KeptEvent {
                    name: name.to_owned(),
                    value,
                    id: id.to_owned(),
                    data,
                    owner: owner.unwrap_or_default(),
                    traceparent: traceparent.unwrap_or_default(),
                    at: Time(at),
                    keep_until: Time(keep_until),
                };
                undelivered.push(UndeliveredEvent {
                    event,
                    has_started: started.is_some(),
                    place: place.clone(),
                });
            }
        }
        let Some((_, last)) = found.into_iter().next_back() else { break };
        after = Some(last);
    }
    Ok(undelivered)
}

/// Removes these; each by its entry among those past their time, name and id.
pub(super) async fn forget(shared: &Shared, events: &[(&str, &str, &str)]) -> Result<(), Error> {
    let values = shared
        .link
        .ask_all(events.iter().map(|(_, name, id)| fields(shared, name, id, &["value"])).collect())
        .await?;
    let mut calls = Vec::with_capacity(events.len());
    for ((entry, name, id), answer) in events.iter().zip(values) {
        let (value,): (Option<String>,) =
            redis::from_redis_value(answer).map_err(|_| unreadable("an event"))?;
        let index = value.map_or_else(String::new, |value| value_index(name, &value));
        let args = [(*entry).to_owned(), part(name), (*id).to_owned(), index]
            .map(String::into_bytes)
            .into();
        calls.push(Call { script: &FORGET, base: shared.keys.of_text(name).to_owned(), args });
    }
    Ok(shared.link.call_all(calls).await.into_iter().try_for_each(|result| result.map(drop))?)
}

fn fields(shared: &Shared, name: &str, id: &str, fields: &[&str]) -> Cmd {
    let mut command = redis::cmd("HMGET");
    command.arg(event_key(shared, name, id)).arg(fields);
    command
}

fn event_key(shared: &Shared, name: &str, id: &str) -> String {
    format!("{}:event:{}:{id}", shared.keys.of_text(name), part(name))
}
