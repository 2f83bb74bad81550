//! Queries for instances, events and definitions. The write-behind cache wins over the records; it
//! is read first, because a change that is flushed in between is then seen twice instead of missed.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::before_commit;
use super::instance_chain;
use super::write;
use crate::id::InstanceId;
use crate::machine::Time;
use crate::store::sqlite::record_delta::RecordDelta;
use crate::store::sqlite::unflushed::{Head, Unflushed, UnflushedRecord, UnsettledFlag};
use crate::store::{
    Count, Error, InUse, KeptEvent, Record, Seq, Status, Stored, Subscription, UndeliveredEvent,
};

pub(super) const RECORD: &str = "SELECT i.id, k.workflow, k.version, k.definition, i.owner, i.status, i.started_at, i.ended_at, i.unsettled
    FROM instance i JOIN kind k ON k.kind = i.kind";

pub(super) fn record(
    conn: &Connection,
    unflushed: &Unflushed,
    instance: InstanceId,
) -> Result<Option<Record>, Error> {
    // Before the record is read: what is newer moves from memory to the record, not back.
    let (unwritten, settled) = match unflushed.entry(instance) {
        Some(entry) => (entry.record, Some(entry.mark != UnsettledFlag::Unsettled)),
        None => (UnflushedRecord::Nothing, None),
    };
    let record =
        with_unwritten(conn, instance, &unwritten).map_err(|error| before_commit(&error))?;
    Ok(record.map(|record| Record { settled: settled.unwrap_or(record.settled), ..record }))
}

/// The record as it is with what is not written of it; whether it is settled may be a little
/// behind.
pub(super) fn with_unwritten(
    conn: &Connection,
    instance: InstanceId,
    unwritten: &UnflushedRecord,
) -> rusqlite::Result<Option<Record>> {
    let (start, change) = match unwritten {
        UnflushedRecord::Nothing => return stored_record(conn, instance),
        UnflushedRecord::Delta(change) => {
            return Ok(stored_record(conn, instance)?.map(|record| apply(record, *change)));
        }
        UnflushedRecord::All(start, change) => (start, change),
    };
    let mut kind =
        conn.prepare_cached("SELECT workflow, version, definition FROM kind WHERE kind = ?1")?;
    let record = kind.query_row([start.kind], |row| {
        Ok(Record {
            instance,
            workflow: row.get(0)?,
            version: row.get(1)?,
            definition: row.get(2)?,
            owner: start.owner.clone(),
            status: change.status,
            started_at: start.started_at,
            ended_at: change.ended_at,
            settled: false,
            owner_node: None,
        })
    })?;
    Ok(Some(record))
}

pub(super) fn apply(record: Record, change: RecordDelta) -> Record {
    Record { status: change.status, ended_at: change.ended_at, ..record }
}

fn stored_record(conn: &Connection, instance: InstanceId) -> rusqlite::Result<Option<Record>> {
    conn.prepare_cached(&format!("{RECORD} WHERE i.id = ?1"))?
        .query_row([instance.0], to_record)
        .optional()
}

pub(super) fn rows(
    conn: &Connection,
    unflushed: &Unflushed,
    instance: InstanceId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Stored>, Error> {
    // Before the snapshot is taken: what was in memory then is in the snapshot.
    let active = unflushed.head(instance);
    let snapshot = conn.unchecked_transaction().map_err(|error| before_commit(&error))?;
    let head = match active {
        Some(head) => Some(head),
        None => snapshot
            .prepare_cached("SELECT head, seq FROM instance WHERE id = ?1")
            .and_then(|mut read| {
                read.query_row([instance.0], |row| Ok(Head { row: row.get(0)?, seq: row.get(1)? }))
                    .optional()
            })
            .map_err(|error| before_commit(&error))?,
    };
    let Some(head) = head else { return Ok(Vec::new()) };
    Ok(instance_chain::rows(&snapshot, head, after, limit)?)
}

pub(super) fn unsettled(
    conn: &Connection,
    unflushed: &Unflushed,
    after: Option<InstanceId>,
    limit: usize,
) -> Result<Vec<InstanceId>, Error> {
    let mut found = unflushed.unsettled(after, limit);
    let stored = || -> rusqlite::Result<Vec<InstanceId>> {
        let mut read = conn.prepare_cached(
            "SELECT id FROM instance WHERE unsettled = 1 AND id > ?1 ORDER BY id",
        )?;
        let mut rows = read.query([after.as_ref().map_or(&[][..], |after| &after.0[..])])?;
        let mut stored = Vec::new();
        while stored.len() < limit
            && let Some(row) = rows.next()?
        {
            let id = InstanceId(row.get(0)?);
            // Of those in memory it is known better.
            if !unflushed.contains(id) {
                stored.push(id);
            }
        }
        Ok(stored)
    };
    found.extend(stored().map_err(|error| before_commit(&error))?);
    found.sort_unstable();
    found.dedup();
    found.truncate(limit);
    Ok(found)
}

pub(super) fn due(
    conn: &Connection,
    unflushed: &Unflushed,
    after: Option<(Time, InstanceId)>,
    until: Time,
    limit: usize,
) -> Result<Vec<(Time, InstanceId)>, Error> {
    let mut found = unflushed.due(after, until, limit);
    let stored = || -> rusqlite::Result<Vec<(Time, InstanceId)>> {
        let mut read = conn.prepare_cached(
            "SELECT wake_at, id FROM instance
             WHERE wake_at IS NOT NULL AND (wake_at, id) > (?1, ?2) AND wake_at <= ?3 ORDER BY wake_at, id",
        )?;
        let (at, id) = after.as_ref().map_or((i64::MIN, &[][..]), |(at, id)| (at.0, &id.0));
        let mut rows = read.query(params![at, id, until.0])?;
        let mut stored = Vec::new();
        while stored.len() < limit
            && let Some(row) = rows.next()?
        {
            let (at, id) = (Time(row.get(0)?), InstanceId(row.get(1)?));
            if !unflushed.contains(id) {
                stored.push((at, id));
            }
        }
        Ok(stored)
    };
    found.extend(stored().map_err(|error| before_commit(&error))?);
    found.sort_unstable();
    found.dedup();
    found.truncate(limit);
    Ok(found)
}

pub(super) fn subscribers(
    conn: &Connection,
    event: &str,
    value: Option<&str>,
    after: Option<&Subscription>,
    limit: usize,
) -> Result<Vec<Subscription>, Error> {
    let read = || -> rusqlite::Result<Vec<Subscription>> {
        let mut read = conn.prepare_cached(
            "SELECT any_value, value, instance, path FROM subscription
             WHERE event = ?1 AND any_value = ?2 AND value = ?3 AND (instance, path) > (?4, ?5) ORDER BY instance, path LIMIT ?6",
        )?;
        let mut found: Vec<Subscription> = Vec::new();
        // Those that wait for the value come first, then those that wait for any.
        for any in [false, true] {
            let wanted = match value {
                Some(value) if !any => value,
                None if !any => continue,
                _ => "",
            };
            let start = match after {
                Some(after) if after.value.is_none() && !any => continue,
                Some(after) if after.value.is_none() == any => {
                    (&after.instance.0[..], after.path.as_str())
                }
                _ => (&[][..], ""),
            };
            let rows = read.query_map(
                params![event, any, wanted, start.0, start.1, self::limit(limit - found.len())],
                |row| {
                    let value = if row.get(0)? { None } else { Some(row.get(1)?) };
                    Ok(Subscription {
                        event: event.to_owned(),
                        value,
                        instance: InstanceId(row.get(2)?),
                        path: row.get(3)?,
                    })
                },
            )?;
            for subscription in rows {
                found.push(subscription?);
            }
        }
        Ok(found)
    };
    read().map_err(|error| before_commit(&error))
}

const EVENT: &str = "SELECT name, value, id, data, owner, traceparent, at, keep_until FROM event";

pub(super) fn kept(
    conn: &Connection,
    event: &str,
    value: Option<&str>,
    now: Time,
) -> Result<Vec<KeptEvent>, Error> {
    let read = || -> rusqlite::Result<Vec<KeptEvent>> {
        let of_value = if value.is_some() { "AND value = ?3" } else { "AND ?3 IS NULL" };
        let mut read = conn.prepare_cached(&format!(
            "{EVENT} WHERE name = ?1 AND keep_until > ?2 {of_value} ORDER BY row"
        ))?;
        read.query_map(params![event, now.0, value], to_event)?.collect()
    };
    read().map_err(|error| before_commit(&error))
}

pub(super) fn undelivered(
    conn: &Connection,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<UndeliveredEvent>, Error> {
    let after = after.and_then(|place| place.parse::<i64>().ok()).unwrap_or(i64::MIN);
    // Each half by its own index.
    let half = |delivered| {
        format!(
            "SELECT * FROM (SELECT name, value, id, data, owner, traceparent, at, keep_until, delivered, row FROM event WHERE delivered = {delivered} \
             AND row > ?1 ORDER BY row LIMIT ?2)"
        )
    };
    let read = || -> rusqlite::Result<Vec<UndeliveredEvent>> {
        let mut read = conn.prepare_cached(&format!(
            "{} UNION ALL {} ORDER BY row LIMIT ?2",
            half(0),
            half(write::STARTED)
        ))?;
        let rows = read.query_map(params![after, self::limit(limit)], |row| {
            let has_started = row.get::<_, i64>(8)? == write::STARTED;
            Ok(UndeliveredEvent {
                event: to_event(row)?,
                has_started,
                place: row.get::<_, i64>(9)?.to_string(),
            })
        })?;
        rows.collect()
    };
    read().map_err(|error| before_commit(&error))
}

pub(super) fn in_use(conn: &Connection) -> Result<Vec<InUse>, Error> {
    // By kind: what has ended is not looked at.
    let query = format!(
        "SELECT * FROM (SELECT k.workflow, k.version, k.definition, \
         (SELECT count(*) FROM instance i WHERE i.kind = k.kind AND i.status IN ({})) AS instances FROM kind k) \
         WHERE instances > 0 ORDER BY workflow, version, definition",
        open_words()
    );
    let read = || -> rusqlite::Result<Vec<InUse>> {
        let mut read = conn.prepare_cached(&query)?;
        let rows = read.query_map([], |row| {
            let instances = u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
            Ok(InUse {
                workflow: row.get(0)?,
                version: row.get(1)?,
                definition: row.get(2)?,
                instances,
            })
        })?;
        rows.collect()
    };
    read().map_err(|error| before_commit(&error))
}

/// The words of states in which instances are that have not ended.
fn open_words() -> String {
    Status::open().map(|status| format!("'{}'", status.word())).collect::<Vec<_>>().join(", ")
}

pub(super) fn count(
    conn: &Connection,
    unflushed: &Unflushed,
    workflows: &[String],
) -> Result<Vec<Count>, Error> {
    // Before the snapshot: what moves to its record meanwhile is found there, and counted once.
    let mut unwritten = Vec::new();
    unflushed.for_unwritten(None, |id, record| {
        match record {
            UnflushedRecord::Nothing => {}
            UnflushedRecord::Delta(change) => unwritten.push((id, None, change.status)),
            UnflushedRecord::All(start, change) => {
                unwritten.push((id, Some(start.kind), change.status))
            }
        }
        true
    });
    let read = || -> rusqlite::Result<BTreeMap<(String, Status), i64>> {
        let snapshot = conn.unchecked_transaction()?;
        let mut kinds: HashMap<i64, String> = HashMap::new();
        let mut rows = snapshot.prepare_cached("SELECT kind, workflow FROM kind")?;
        for row in rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))? {
            let (kind, workflow) = row?;
            if workflows.contains(&workflow) {
                kinds.insert(kind, workflow);
            }
        }
        let mut counts: BTreeMap<(i64, Status), i64> = BTreeMap::new();
        let mut of_kind = snapshot.prepare_cached(&format!(
            "SELECT status, count(*) FROM instance WHERE kind = ?1 AND status IN ({}) GROUP BY status",
            open_words()
        ))?;
        for kind in kinds.keys() {
            let mut rows = of_kind.query([kind])?;
            while let Some(row) = rows.next()? {
                if let Some(status) = status_of(row.get_ref(0)?.as_str()?) {
                    counts.insert((*kind, status), row.get(1)?);
                }
            }
        }
        let mut stored =
            snapshot.prepare_cached("SELECT kind, status FROM instance WHERE id = ?1")?;
        for (id, kind, status) in &unwritten {
            let found: Option<(i64, String)> =
                stored.query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some(kind) = found.as_ref().map(|(kind, _)| *kind).or(*kind) else { continue };
            if let Some(former) = found.and_then(|(_, word)| status_of(&word)) {
                *counts.entry((kind, former)).or_default() -= 1;
            }
            *counts.entry((kind, *status)).or_default() += 1;
        }
        let mut sums: BTreeMap<(String, Status), i64> = BTreeMap::new();
        for ((kind, status), count) in counts {
            if let Some(workflow) = kinds.get(&kind).filter(|_| !status.is_ended()) {
                *sums.entry((workflow.clone(), status)).or_default() += count;
            }
        }
        Ok(sums)
    };
    let sums = read().map_err(|error| before_commit(&error))?;
    let of = |((workflow, status), sum)| {
        let instances = u64::try_from(sum).ok().filter(|instances| *instances > 0)?;
        Some(Count { workflow, status, instances })
    };
    Ok(sums.into_iter().filter_map(of).collect())
}

fn status_of(word: &str) -> Option<Status> {
    Status::ALL.into_iter().find(|status| status.word() == word)
}

pub(super) fn definition(conn: &Connection, hash: &str) -> Result<Option<String>, Error> {
    let read = || {
        conn.prepare_cached("SELECT document FROM definition WHERE hash = ?1")?
            .query_row([hash], |row| row.get(0))
            .optional()
    };
    read().map_err(|error| before_commit(&error))
}

/// Instances whose time of keeping is over, the longest first.
pub(super) fn expired(
    conn: &Connection,
    now: Time,
    limit: usize,
) -> Result<Vec<InstanceId>, Error> {
    let read = || -> rusqlite::Result<Vec<InstanceId>> {
        let mut read = conn.prepare_cached(
            "SELECT id FROM instance WHERE expires_at IS NOT NULL AND expires_at <= ?1 AND unsettled = 0 ORDER BY expires_at LIMIT ?2",
        )?;
        read.query_map(params![now.0, self::limit(limit)], |row| Ok(InstanceId(row.get(0)?)))?
            .collect()
    };
    read().map_err(|error| before_commit(&error))
}

pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn to_record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let word: String = row.get(5)?;
    let unknown = || {
        rusqlite::Error::InvalidColumnType(
            5,
            format!("status `{word}`"),
            rusqlite::types::Type::Text,
        )
    };
    let status =
        Status::ALL.into_iter().find(|status| status.word() == word).ok_or_else(unknown)?;
    Ok(Record {
        instance: InstanceId(row.get(0)?),
        workflow: row.get(1)?,
        version: row.get(2)?,
        definition: row.get(3)?,
        owner: row.get(4)?,
        status,
        started_at: Time(row.get(6)?),
        ended_at: row.get::<_, Option<i64>>(7)?.map(Time),
        settled: !row.get::<_, bool>(8)?,
        owner_node: None,
    })
}

fn to_event(row: &Row<'_>) -> rusqlite::Result<KeptEvent> {
    Ok(KeptEvent {
        name: row.get(0)?,
        value: row.get(1)?,
        id: row.get(2)?,
        data: row.get(3)?,
        owner: row.get(4)?,
        traceparent: row.get(5)?,
        at: Time(row.get(6)?),
        keep_until: Time(row.get(7)?),
    })
}
