//! Records and rows.

use redis::Value;

use super::Shared;
use super::error::unreadable;
use crate::id::InstanceId;
use crate::machine::Time;
use crate::redis_client as server;
use crate::store::{Error, Record, Seq, Status, Stored};

const FIELDS: [&str; 8] =
    ["workflow", "version", "definition", "owner", "status", "started_at", "ended_at", "node"];

/// The records of these instances; `None` for those that are not there.
pub(super) async fn records(
    shared: &Shared,
    instances: &[InstanceId],
) -> Result<Vec<Option<Record>>, Error> {
    let found = shared
        .link
        .ask_all(instances.iter().map(|instance| fields_of(shared, *instance)).collect())
        .await?;
    instances.iter().zip(found).map(|(instance, fields)| record(*instance, fields)).collect()
}

/// As [`records`], without those that cannot be read.
pub(super) async fn readable_records(
    shared: &Shared,
    instances: &[InstanceId],
) -> Result<Vec<Record>, Error> {
    let found = shared
        .link
        .ask_each(instances.iter().map(|instance| fields_of(shared, *instance)).collect())
        .await?;
    let mut readable = Vec::with_capacity(found.len());
    for (instance, fields) in instances.iter().zip(found) {
        let read = match fields {
            Err(error @ server::Error::WrongType(_)) => Err(Error::from(error)),
            fields => record(*instance, fields?),
        };
        match read {
            Ok(record) => readable.extend(record),
            Err(error) => shared.foreign.found(&record_key(shared, *instance), &error.to_string()),
        }
    }
    Ok(readable)
}

fn fields_of(shared: &Shared, instance: InstanceId) -> redis::Cmd {
    let mut command = redis::cmd("HMGET");
    command.arg(record_key(shared, instance)).arg(&FIELDS);
    command
}

fn record_key(shared: &Shared, instance: InstanceId) -> String {
    format!("{}:instance:{instance}", shared.keys.of_instance(instance))
}

fn record(instance: InstanceId, fields: Value) -> Result<Option<Record>, Error> {
    let wrong = || unreadable(&format!("the record of {instance}"));
    let fields: [Option<String>; 8] = redis::from_redis_value(fields).map_err(|_| wrong())?;
    let [
        Some(workflow),
        Some(version),
        Some(definition),
        Some(owner),
        Some(status),
        Some(started_at),
        ended_at,
        node,
    ] = fields
    else {
        return Ok(None);
    };
    let time = |text: String| text.parse().map(Time).map_err(|_| wrong());
    Ok(Some(Record {
        instance,
        workflow,
        version: version.parse().map_err(|_| wrong())?,
        definition,
        owner,
        status: Status::ALL.into_iter().find(|one| one.word() == status).ok_or_else(wrong)?,
        started_at: time(started_at)?,
        ended_at: ended_at.map(time).transpose()?,
        settled: node.is_none(),
        owner_node: node.map(|node| node.parse().map_err(|_| wrong())).transpose()?,
    }))
}

pub(super) async fn rows(
    shared: &Shared,
    instance: InstanceId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Stored>, Error> {
    let Some(last) = limit.checked_sub(1) else { return Ok(Vec::new()) };
    let mut command = redis::cmd("LRANGE");
    let last = i64::from(after).saturating_add(i64::try_from(last).unwrap_or(i64::MAX));
    command
        .arg(format!("{}:journal:{instance}", shared.keys.of_instance(instance)))
        .arg(after)
        .arg(last);
    let Value::Array(rows) = shared.link.ask(command).await? else {
        return Err(unreadable(&format!("the journal of {instance}")));
    };
    rows.into_iter().zip(after.saturating_add(1)..).map(|(row, seq)| stored(seq, row)).collect()
}

/// `<settled> <token> <row>`.
pub(super) fn stored(seq: Seq, row: Value) -> Result<Stored, Error> {
    let wrong = || unreadable("a row of a journal");
    let text: String = redis::from_redis_value(row).map_err(|_| wrong())?;
    let (settled, rest) = text.split_once(' ').ok_or_else(wrong)?;
    let (_, row) = rest.split_once(' ').ok_or_else(wrong)?;
    Ok(Stored { seq, settled: settled.parse().map_err(|_| wrong())?, row: row.into() })
}

pub(super) async fn definition(shared: &Shared, hash: &str) -> Result<Option<String>, Error> {
    let mut command = redis::cmd("GET");
    command.arg(definition_key(shared, hash));
    let found = shared.link.ask(command).await?;
    redis::from_redis_value(found).map_err(|_| unreadable("a definition"))
}

pub(super) async fn define(shared: &Shared, hash: &str, document: &str) -> Result<(), Error> {
    let mut command = redis::cmd("SETNX");
    command.arg(definition_key(shared, hash)).arg(document);
    Ok(shared.link.ask(command).await.map(drop)?)
}

fn definition_key(shared: &Shared, hash: &str) -> String {
    format!("{}:definition:{hash}", shared.keys.of_text(hash))
}
