//! Lists of instances, newest first, with bounded work per page however many are stored.

use std::collections::BinaryHeap;

use rusqlite::{Connection, OptionalExtension, params};

use super::error::before_commit;
use super::read::{RECORD, apply, to_record, with_unwritten};
use crate::id::InstanceId;
use crate::store::sqlite::unflushed::{Unflushed, UnflushedRecord};
use crate::store::{Error, Filter, Record, Status};

pub(super) fn list(
    conn: &Connection,
    unflushed: &Unflushed,
    filter: &Filter,
) -> Result<Vec<Record>, Error> {
    read(conn, unflushed, filter).map_err(|error| before_commit(&error))
}

fn read(
    conn: &Connection,
    unflushed: &Unflushed,
    filter: &Filter,
) -> rusqlite::Result<Vec<Record>> {
    let unwritten = unwritten(unflushed, filter);
    let snapshot = conn.unchecked_transaction()?;
    let mut page = Vec::new();
    for (instance, unwritten) in unwritten {
        page.extend(
            with_unwritten(&snapshot, instance, &unwritten)?
                .filter(|record| matches(filter, record)),
        );
    }
    let mut left = filter.limit;
    let mut take = |record: Record| {
        // What memory knows by now is newer than the record.
        let record = match unflushed
            .entry_if(record.instance, |entry| matches!(entry.record, UnflushedRecord::Delta(_)))
        {
            Some(entry) if let UnflushedRecord::Delta(change) = entry.record => {
                apply(record, change)
            }
            _ => record,
        };
        if left > 0 && matches(filter, &record) {
            left -= 1;
            page.push(record);
        }
        left > 0
    };
    match filter {
        Filter { workflow: None, status: None, owner: None, .. } => {
            all(&snapshot, filter, &mut take)?
        }
        // What has completed is most of all: there the owner says more.
        Filter { owner: Some(owner), status: None | Some(Status::Completed), .. }
            if !owner.is_empty() =>
        {
            owned(&snapshot, filter, owner, &mut take)?;
        }
        _ => merged(&snapshot, filter, &mut take)?,
    }
    page.sort_by_key(|record| std::cmp::Reverse(record.instance));
    page.dedup_by_key(|record| record.instance);
    page.truncate(filter.limit);
    Ok(page)
}

/// Those that memory knows better and that may belong on the page.
fn unwritten(unflushed: &Unflushed, filter: &Filter) -> Vec<(InstanceId, UnflushedRecord)> {
    let mut found = Vec::new();
    let mut certain = 0;
    if filter.limit == 0 {
        return found;
    }
    unflushed.for_unwritten(filter.after, |instance, unwritten| {
        let (change, owner) = match unwritten {
            UnflushedRecord::Nothing => return true,
            UnflushedRecord::Delta(change) => (change, None),
            UnflushedRecord::All(start, change) => (change, Some(&start.owner)),
        };
        if filter.status.is_some_and(|status| status != change.status) {
            return true;
        }
        if let (Some(wanted), Some(owner)) = (&filter.owner, owner)
            && wanted != owner
        {
            return true;
        }
        // The workflow is known by number only, and the rest of a changed record is on the disk.
        if owner.is_some() && filter.workflow.is_none() {
            certain += 1;
        }
        found.push((instance, unwritten.clone()));
        certain < filter.limit
    });
    found
}

fn matches(filter: &Filter, record: &Record) -> bool {
    let Filter { workflow, status, owner, after: _, limit: _ } = filter;
    workflow.as_ref().is_none_or(|workflow| *workflow == record.workflow)
        && status.is_none_or(|status| status == record.status)
        && owner.as_ref().is_none_or(|owner| *owner == record.owner)
}

/// Wants records, newest first, until it says that it wants no more.
type Take<'t> = &'t mut dyn FnMut(Record) -> bool;

fn all(conn: &Connection, filter: &Filter, take: Take<'_>) -> rusqlite::Result<()> {
    let mut read = conn.prepare_cached(&format!("{RECORD} WHERE i.id < ?1 ORDER BY i.id DESC"))?;
    let mut rows = read.query([before(filter)])?;
    while let Some(row) = rows.next()?
        && take(to_record(row)?)
    {}
    Ok(())
}

fn owned(conn: &Connection, filter: &Filter, owner: &str, take: Take<'_>) -> rusqlite::Result<()> {
    let mut read = conn.prepare_cached(&format!(
        "{RECORD} WHERE i.owner = ?1 AND i.owner <> '' AND i.id < ?2 ORDER BY i.owner, i.id DESC"
    ))?;
    let mut rows = read.query(params![owner, before(filter)])?;
    while let Some(row) = rows.next()?
        && take(to_record(row)?)
    {}
    Ok(())
}

/// One range of the index is open per workflow version and status, and the newest of their unflushed is
/// taken, again and again.
fn merged(conn: &Connection, filter: &Filter, take: Take<'_>) -> rusqlite::Result<()> {
    let kinds: Vec<i64> = conn
        .prepare_cached("SELECT kind FROM kind WHERE ?1 IS NULL OR workflow = ?1")?
        .query_map([&filter.workflow], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut next = conn.prepare_cached("SELECT id FROM instance WHERE kind = ?1 AND status = ?2 AND id < ?3 ORDER BY id DESC LIMIT 1")?;
    let mut older = |kind: i64,
                     status: Status,
                     than: &[u8]|
     -> rusqlite::Result<Option<([u8; 16], i64, Status)>> {
        next.query_row(params![kind, status.word(), than], |row| Ok((row.get(0)?, kind, status)))
            .optional()
    };
    let mut newest = BinaryHeap::new();
    for kind in kinds {
        for status in Status::ALL
            .into_iter()
            .filter(|status| filter.status.is_none_or(|wanted| wanted == *status))
        {
            newest.extend(older(kind, status, before(filter))?);
        }
    }
    let mut read = conn.prepare_cached(&format!("{RECORD} WHERE i.id = ?1"))?;
    while let Some((id, kind, status)) = newest.pop()
        && take(read.query_row([id], to_record)?)
    {
        newest.extend(older(kind, status, &id)?);
    }
    Ok(())
}

/// Ids less than this one; longer than any id where all are wanted.
fn before(filter: &Filter) -> &[u8] {
    filter.after.as_ref().map_or(&[0xff; 17], |after| &after.0)
}
