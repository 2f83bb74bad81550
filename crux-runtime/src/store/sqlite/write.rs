//! Changes besides the journal, in the transaction of a group: subscriptions, kept events,
//! definitions, and deletion after retention.

use rusqlite::{Connection, OptionalExtension, params};

use crate::id::InstanceId;
use crate::machine::Time;
use crate::store::sqlite::unflushed::Unflushed;
use crate::store::{KeptEvent, Subscription};

/// Journal rows removed in one transaction, so that appends need not wait for long.
const REMOVE_ROWS_MAX: usize = 2_000;

pub(super) fn subscribe(conn: &Connection, batch: &[Subscription]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO subscription(event, any_value, value, instance, path) VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    )?;
    for Subscription { event, value, instance, path } in batch {
        insert.execute(params![
            event,
            value.is_none(),
            value.as_deref().unwrap_or(""),
            instance.0,
            path
        ])?;
    }
    Ok(())
}

pub(super) fn unsubscribe(conn: &Connection, batch: &[Subscription]) -> rusqlite::Result<()> {
    let mut delete =
        conn.prepare_cached("DELETE FROM subscription WHERE event = ?1 AND any_value = ?2 AND value = ?3 AND instance = ?4 AND path = ?5")?;
    for Subscription { event, value, instance, path } in batch {
        delete.execute(params![
            event,
            value.is_none(),
            value.as_deref().unwrap_or(""),
            instance.0,
            path
        ])?;
    }
    Ok(())
}

pub(super) fn keep(conn: &Connection, batch: &[KeptEvent]) -> rusqlite::Result<Vec<bool>> {
    let mut insert = conn
        .prepare_cached("INSERT INTO event(name, value, id, data, owner, traceparent, at, keep_until) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING")?;
    let one = |event: &KeptEvent| {
        let KeptEvent { name, value, id, data, owner, traceparent, at, keep_until } = event;
        let (at, keep_until) = (at.0, keep_until.0);
        let row = params![name, value, id, data, owner, traceparent, at, keep_until];
        Ok(insert.execute(row)? == 1)
    };
    batch.iter().map(one).collect()
}

/// In the column `delivered`: whatever the event starts has started, and some who wait for it have
/// not got it.
pub(super) const STARTED: i64 = 2;

pub(super) fn started(conn: &Connection, batch: &[(String, String)]) -> rusqlite::Result<()> {
    let mut update = conn.prepare_cached(&format!(
        "UPDATE event SET delivered = {STARTED} WHERE name = ?1 AND id = ?2 AND delivered = 0"
    ))?;
    for (name, id) in batch {
        update.execute(params![name, id])?;
    }
    Ok(())
}

pub(super) fn delivered(conn: &Connection, batch: &[(String, String)]) -> rusqlite::Result<()> {
    let mut update = conn.prepare_cached(
        "UPDATE event SET delivered = 1 WHERE name = ?1 AND id = ?2 AND delivered <> 1",
    )?;
    for (name, id) in batch {
        update.execute(params![name, id])?;
    }
    Ok(())
}

pub(super) fn define(conn: &Connection, hash: &str, document: &str) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO definition(hash, document) VALUES(?1, ?2) ON CONFLICT DO NOTHING",
    )?;
    insert.execute(params![hash, document])?;
    Ok(())
}

pub(super) fn forget_events(conn: &Connection, now: Time, limit: usize) -> rusqlite::Result<()> {
    let mut delete = conn.prepare_cached(
        "DELETE FROM event WHERE row IN (SELECT row FROM event WHERE delivered = 1 AND keep_until <= ?1 ORDER BY keep_until LIMIT ?2)",
    )?;
    delete.execute(params![now.0, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// How far the removing of a list has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Removed {
    pub instances: usize,
    /// How many of the list have been looked at: the rest is for another transaction.
    pub seen: usize,
    /// Whether rows of removed instances are still there.
    pub rows_left: bool,
}

/// Removes instances of which all is done, as many as one transaction should. A journal that is too
/// long for one goes piece by piece when its instance is already gone.
pub(super) fn remove(
    conn: &Connection,
    unflushed: &Unflushed,
    instances: &[InstanceId],
    now: Time,
) -> rusqlite::Result<Removed> {
    let mut read = conn.prepare_cached(
        "SELECT head, request FROM instance WHERE id = ?1 AND expires_at IS NOT NULL AND expires_at <= ?2 AND unsettled = 0",
    )?;
    let mut forget = conn.prepare_cached("DELETE FROM instance WHERE id = ?1")?;
    let mut forget_request = conn.prepare_cached("DELETE FROM request WHERE key = ?1")?;
    let mut leave = conn.prepare_cached("INSERT INTO removing(head) VALUES(?1)")?;
    let mut budget = REMOVE_ROWS_MAX;
    finish_removing(conn, &mut budget)?;
    let mut removed = Removed { instances: 0, seen: 0, rows_left: budget == 0 };
    for instance in instances {
        if budget == 0 {
            break;
        }
        removed.seen += 1;
        // It has moved since, or its last row is not in its record yet.
        if unflushed.contains(*instance) {
            continue;
        }
        let found = read
            .query_row(params![instance.0, now.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((head, request)): Option<(i64, Option<[u8; 16]>)> = found else { continue };
        forget.execute([instance.0])?;
        if let Some(request) = request {
            forget_request.execute([request])?;
        }
        let rest = remove_rows(conn, head, &mut budget)?;
        if rest != 0 {
            leave.execute([rest])?;
            removed.rows_left = true;
        }
        removed.instances += 1;
    }
    Ok(removed)
}

/// Goes on with journals that were too long.
fn finish_removing(conn: &Connection, budget: &mut usize) -> rusqlite::Result<()> {
    let mut next = conn.prepare_cached("SELECT head FROM removing LIMIT 1")?;
    let mut done = conn.prepare_cached("DELETE FROM removing WHERE head = ?1")?;
    let mut leave = conn.prepare_cached("INSERT INTO removing(head) VALUES(?1)")?;
    while *budget > 0
        && let Some(head) = next.query_row([], |row| row.get::<_, i64>(0)).optional()?
    {
        done.execute([head])?;
        let rest = remove_rows(conn, head, budget)?;
        if rest != 0 {
            leave.execute([rest])?;
        }
    }
    Ok(())
}

/// Where it stopped for lack of budget; 0: it did not.
fn remove_rows(conn: &Connection, head: i64, budget: &mut usize) -> rusqlite::Result<i64> {
    let mut prev = conn.prepare_cached("SELECT prev FROM journal WHERE row = ?1")?;
    let mut delete = conn.prepare_cached("DELETE FROM journal WHERE row = ?1")?;
    let mut row = head;
    while row != 0 && *budget > 0 {
        let before = prev.query_row([row], |columns| columns.get(0)).optional()?.unwrap_or(0);
        delete.execute([row])?;
        *budget -= 1;
        row = before;
    }
    Ok(row)
}
