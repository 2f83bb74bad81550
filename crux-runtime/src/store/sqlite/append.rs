//! One append in the transaction of a group: check, then write. An append that comes too late is
//! answered without writing anything, and does not affect the others of the group.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::instance_chain;
use crate::id::InstanceId;
use crate::store::sqlite::bulk_insert::{BulkInsert, NewRow};
use crate::store::sqlite::record_delta::{RecordDelta, RecordStart, request_key, to_column};
use crate::store::sqlite::unflushed::{ById, Head, Transition, Unflushed, UnsettledFlag};
use crate::store::{Append, Appended, Error, NewInstance, RequestKey, Status};

/// Changes of the open transaction, not visible elsewhere yet.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub moved: ById<Transition>,
    pub rows: Vec<(i64, InstanceId)>,
}

/// Appends, in one transaction after the other.
pub(super) struct Appender<'c> {
    conn: &'c Connection,
    rows: BulkInsert<'c>,
    /// Workflow, version and definition, by the number that stands for them.
    kinds: HashMap<(String, u32, String), i64>,
    next_row: i64,
    pub staged: Staged,
}

/// Errors outside are the whole transaction's, those inside are one append's alone.
type Result<T> = rusqlite::Result<std::result::Result<T, Error>>;

impl<'c> Appender<'c> {
    pub fn new(conn: &'c Connection, next_row: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            rows: BulkInsert::new(conn)?,
            kinds: HashMap::new(),
            next_row,
            staged: Staged::default(),
        })
    }

    /// A transaction begins, or begins again.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.staged.moved.clear();
        self.staged.rows.clear();
    }

    /// The transaction was rolled back.
    pub fn rolled_back(&mut self) {
        self.clear();
        self.kinds.clear();
    }

    /// The transaction is durable.
    pub fn committed(&mut self) {
        self.next_row += i64::try_from(self.staged.rows.len()).unwrap_or(0);
        self.clear();
    }

    /// Before anything else reads or changes the journal, and before the commit.
    pub fn flush(&mut self) -> rusqlite::Result<()> {
        self.rows.flush()
    }

    /// `refusal`: why nothing may begin.
    pub fn append(
        &mut self,
        unflushed: &Unflushed,
        append: &Append,
        refusal: Option<&str>,
    ) -> Result<Appended> {
        if let Some(new) = append.start.as_deref().filter(|_| append.seq == 1) {
            return self.start(unflushed, append, new, refusal);
        }
        let Some(head) = self.head(unflushed, append.instance)? else {
            return Ok(Err(Error::Broken(format!(
                "there is no instance {} to append to",
                append.instance
            ))));
        };
        if append.seq != head.seq + 1 {
            return self.late(append, head);
        }
        self.write(append, head.row, None, append.record.map(RecordDelta::from))
    }

    /// The newest row, as the open transaction sees it.
    pub fn head(
        &self,
        unflushed: &Unflushed,
        instance: InstanceId,
    ) -> rusqlite::Result<Option<Head>> {
        if let Some(moved) = self.staged.moved.get(&instance) {
            return Ok(Some(moved.head));
        }
        if let Some(head) = unflushed.head(instance) {
            return Ok(Some(head));
        }
        let mut read = self.conn.prepare_cached("SELECT head, seq FROM instance WHERE id = ?1")?;
        read.query_row([instance.0], |row| Ok(Head { row: row.get(0)?, seq: row.get(1)? }))
            .optional()
    }

    fn start(
        &mut self,
        unflushed: &Unflushed,
        append: &Append,
        new: &NewInstance,
        refusal: Option<&str>,
    ) -> Result<Appended> {
        if let Some(head) = self.head(unflushed, append.instance)? {
            return self.late(append, head);
        }
        let request = new.request.as_ref().map(request_key);
        if let (Some(key), Some(request)) = (request, &new.request) {
            // A repeated request for a started instance is answered even while no new one may
            // start.
            let taken = refusal.is_none() && self.take_request(key, request, append.instance)?;
            if !taken && let Some(used) = self.used(key, request)? {
                return Ok(Ok(used));
            }
        }
        if let Some(refusal) = refusal {
            return Ok(Err(Error::Full(refusal.to_owned())));
        }
        let start = RecordStart {
            kind: self.kind(new)?,
            owner: new.owner.clone(),
            started_at: new.started_at,
            request,
        };
        let change = append.record.map_or(
            RecordDelta { status: Status::Pending, ended_at: None, expires_at: None },
            RecordDelta::from,
        );
        self.write(append, 0, Some(Arc::new(start)), Some(change))
    }

    fn write(
        &mut self,
        append: &Append,
        prev: i64,
        start: Option<Arc<RecordStart>>,
        change: Option<RecordDelta>,
    ) -> Result<Appended> {
        let record = match change.map(|change| to_column(start.as_deref(), change)).transpose() {
            Ok(record) => record,
            Err(error) => return Ok(Err(Error::Broken(format!("a record has no text: {error}")))),
        };
        let row = self.next_row + i64::try_from(self.staged.rows.len()).unwrap_or(0);
        let Append { instance, seq, settled, token, row: body, .. } = append;
        let (token, body) = (token.cast_signed(), body.clone());
        self.rows.insert(NewRow {
            row,
            instance: *instance,
            seq: *seq,
            prev,
            settled: *settled,
            token,
            record,
            body,
        })?;
        self.staged.rows.push((row, *instance));
        let mark =
            if settled >= seq { UnsettledFlag::Settled(None) } else { UnsettledFlag::Unsettled };
        let head = Head { row, seq: *seq };
        match self.staged.moved.entry(*instance) {
            Entry::Vacant(entry) => _ = entry.insert(Transition { head, mark, start, change }),
            Entry::Occupied(mut entry) => {
                let moved = entry.get_mut();
                (moved.head, moved.mark) = (head, mark);
                moved.start = start.or_else(|| moved.start.take());
                moved.change = change.or(moved.change);
            }
        }
        Ok(Ok(Appended::Done))
    }

    /// The journal is not where the append expects it.
    fn late(&mut self, append: &Append, head: Head) -> Result<Appended> {
        if append.seq > head.seq || append.seq == 0 {
            let Append { instance, seq, .. } = append;
            return Ok(Err(Error::Broken(format!(
                "row {seq} cannot follow row {} of {instance}",
                head.seq
            ))));
        }
        self.rows.flush()?;
        let found = instance_chain::token(self.conn, head, append.seq).and_then(|token| {
            if token == append.token {
                return Ok(Appended::Same);
            }
            instance_chain::rows(self.conn, head, append.seq - 1, usize::MAX).map(Appended::Behind)
        });
        match found {
            Ok(appended) => Ok(Ok(appended)),
            Err(instance_chain::Error::Sql(error)) => Err(error),
            Err(error @ instance_chain::Error::Damaged(_)) => Ok(Err(error.into())),
        }
    }

    /// Whether it was free.
    fn take_request(
        &self,
        key: [u8; 16],
        request: &RequestKey,
        instance: InstanceId,
    ) -> rusqlite::Result<bool> {
        let mut insert =
            self.conn.prepare_cached("INSERT INTO request(key, input_hash, instance) VALUES(?1, ?2, ?3) ON CONFLICT DO NOTHING")?;
        Ok(insert.execute(params![key, request.input_hash, instance.0])? == 1)
    }

    fn used(&self, key: [u8; 16], request: &RequestKey) -> rusqlite::Result<Option<Appended>> {
        let mut read =
            self.conn.prepare_cached("SELECT instance, input_hash FROM request WHERE key = ?1")?;
        read.query_row([key], |row| {
            let same_input = row.get::<_, [u8; 32]>(1)? == request.input_hash;
            Ok(Appended::Used { instance: InstanceId(row.get(0)?), same_input })
        })
        .optional()
    }

    fn kind(&mut self, new: &NewInstance) -> rusqlite::Result<i64> {
        let key = (new.workflow.clone(), new.version, new.definition.clone());
        if let Some(kind) = self.kinds.get(&key) {
            return Ok(*kind);
        }
        let values = params![new.workflow, new.version, new.definition];
        self.conn
            .prepare_cached("INSERT INTO kind(workflow, version, definition) VALUES(?1, ?2, ?3) ON CONFLICT DO NOTHING")?
            .execute(values)?;
        let kind = self
            .conn
            .prepare_cached(
                "SELECT kind FROM kind WHERE workflow = ?1 AND version = ?2 AND definition = ?3",
            )?
            .query_row(values, |row| row.get(0))?;
        self.kinds.insert(key, kind);
        Ok(kind)
    }
}
