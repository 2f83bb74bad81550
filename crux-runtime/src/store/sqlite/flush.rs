//! Flushes pending changes of records to the database, ordered by id, many at a time.

use rusqlite::{Connection, Statement, params};

use crate::id::InstanceId;
use crate::store::sqlite::flush_policy::FlushBatch;
use crate::store::sqlite::unflushed::{UnflushedEntry, UnflushedRecord, UnsettledFlag};

pub(super) struct RecordWriter<'c> {
    insert: Statement<'c>,
    change: Statement<'c>,
    head: Statement<'c>,
    mark: Statement<'c>,
}

impl<'c> RecordWriter<'c> {
    pub fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            insert: conn.prepare(
                "INSERT INTO instance(id, head, seq, unsettled, wake_at, status, ended_at, expires_at, kind, owner, started_at, request)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            change: conn.prepare(
                "UPDATE instance SET head = ?2, seq = ?3, unsettled = ?4, wake_at = ?5, status = ?6, ended_at = ?7, expires_at = ?8
                 WHERE id = ?1",
            )?,
            head: conn.prepare("UPDATE instance SET head = ?2, seq = ?3, unsettled = ?4, wake_at = ?5 WHERE id = ?1")?,
            mark: conn.prepare("UPDATE meta SET value = ?1 WHERE key = 'mark'")?,
        })
    }

    pub fn write(&mut self, lazy: &FlushBatch) -> rusqlite::Result<()> {
        for (instance, entry) in &lazy.entries {
            self.write_one(*instance, entry)?;
        }
        if let Some(mark) = lazy.mark {
            self.mark.execute([mark])?;
        }
        Ok(())
    }

    fn write_one(&mut self, instance: InstanceId, entry: &UnflushedEntry) -> rusqlite::Result<()> {
        let (unsettled, wake_at) = match entry.mark {
            UnsettledFlag::Unsettled => (true, None),
            UnsettledFlag::Settled(at) => (false, at.map(|at| at.0)),
        };
        let (id, head, seq) = (instance.0, entry.head.row, entry.head.seq);
        match &entry.record {
            UnflushedRecord::Nothing => {
                self.head.execute(params![id, head, seq, unsettled, wake_at])?
            }
            UnflushedRecord::Delta(change) => {
                let (ended_at, expires_at) =
                    (change.ended_at.map(|at| at.0), change.expires_at.map(|at| at.0));
                self.change.execute(params![
                    id,
                    head,
                    seq,
                    unsettled,
                    wake_at,
                    change.status.word(),
                    ended_at,
                    expires_at
                ])?
            }
            UnflushedRecord::All(start, change) => {
                let (ended_at, expires_at) =
                    (change.ended_at.map(|at| at.0), change.expires_at.map(|at| at.0));
                let status = change.status.word();
                let (kind, owner, started_at, request) =
                    (start.kind, &start.owner, start.started_at.0, start.request);
                self.insert.execute(params![
                    id, head, seq, unsettled, wake_at, status, ended_at, expires_at, kind, owner,
                    started_at, request
                ])?
            }
        };
        Ok(())
    }
}
