//! One append in the transaction of a group: check, then write. Whoever comes too late gets an answer; nothing is written for him, and
//! the others of the group do not notice.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Statement, params};
use sha2::{Digest, Sha256};

use super::chain;
use super::heads::{ById, Head, Heads, Mark};
use crate::id::InstanceId;
use crate::store::{Append, Appended, Error, NewInstance, RecordChange, RequestKey, Status};

/// What the open transaction has changed and nobody else knows yet.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// `None`: its record tells all about it.
    pub heads: ById<Option<Head>>,
    pub rows: Vec<(i64, InstanceId)>,
}

/// The statements of the append path, prepared once.
pub(super) struct Appender<'c> {
    conn: &'c Connection,
    insert_row: Statement<'c>,
    insert_instance: Statement<'c>,
    change_status: Statement<'c>,
    end_settled: Statement<'c>,
    write_head: Statement<'c>,
    /// Workflow, version and definition, by the number that records hold instead.
    kinds: HashMap<(String, u32, String), i64>,
    next_row: i64,
    pub staged: Staged,
}

impl<'c> Appender<'c> {
    pub fn new(conn: &'c Connection, next_row: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            insert_row: conn
                .prepare("INSERT INTO journal(row, instance, seq, prev, settled, token, body) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?,
            insert_instance: conn.prepare(
                "INSERT INTO instance(id, kind, owner, status, started_at, ended_at, expires_at, request)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
            )?,
            change_status: conn.prepare("UPDATE instance SET status = ?2, ended_at = ?3, expires_at = ?4 WHERE id = ?1")?,
            end_settled: conn.prepare(
                "UPDATE instance SET status = ?2, ended_at = ?3, expires_at = ?4, head = ?5, seq = ?6, unsettled = 0, wake_at = NULL
                 WHERE id = ?1",
            )?,
            write_head: conn.prepare("UPDATE instance SET head = ?2, seq = ?3, unsettled = ?4, wake_at = ?5 WHERE id = ?1")?,
            kinds: HashMap::new(),
            next_row,
            staged: Staged::default(),
        })
    }

    /// A transaction begins, or begins again.
    pub fn clear(&mut self) {
        self.staged.heads.clear();
        self.staged.rows.clear();
    }

    /// What was written is gone.
    pub fn rolled_back(&mut self) {
        self.clear();
        self.kinds.clear();
    }

    /// What was written is durable.
    pub fn committed(&mut self) {
        self.next_row += i64::try_from(self.staged.rows.len()).unwrap_or(0);
        self.clear();
    }

    /// Errors outside are the whole transaction's, those inside are this append's alone. `refusal`: why nothing may begin.
    pub fn append(&mut self, heads: &Heads, append: &Append, refusal: Option<&str>) -> rusqlite::Result<Result<Appended, Error>> {
        match &append.start {
            Some(new) if append.seq == 1 => self.start(heads, append, new, refusal),
            _ => {
                let Some(head) = self.head(heads, append.instance)? else {
                    return Ok(Err(Error::Broken(format!("there is no instance {} to append to", append.instance))));
                };
                if append.seq != head.seq + 1 {
                    return self.late(append, head);
                }
                self.write_row(append, head.row)?;
                if let Some(change) = &append.record {
                    self.change(append, *change)?;
                }
                Ok(Ok(Appended::Done))
            }
        }
    }

    /// Writes heads that have not moved for long; afterwards their records tell all about them.
    pub fn write_heads(&mut self, heads: &[(InstanceId, Head)]) -> rusqlite::Result<()> {
        for (instance, head) in heads {
            let (unsettled, wake_at) = match head.mark {
                Mark::Unsettled => (true, None),
                Mark::Settled(at) => (false, at),
            };
            self.write_head.execute(params![instance.0, head.row, head.seq, unsettled, wake_at.map(|at| at.0)])?;
            self.staged.heads.insert(*instance, None);
        }
        Ok(())
    }

    /// The newest row as the open transaction sees it.
    pub fn head(&self, heads: &Heads, instance: InstanceId) -> rusqlite::Result<Option<Head>> {
        if let Some(Some(head)) = self.staged.heads.get(&instance) {
            return Ok(Some(*head));
        }
        if !self.staged.heads.contains_key(&instance)
            && let Some(head) = heads.get(instance)
        {
            return Ok(Some(head));
        }
        let mut read = self.conn.prepare_cached("SELECT head, seq, unsettled FROM instance WHERE id = ?1")?;
        read.query_row([instance.0], |row| {
            let mark = if row.get(2)? { Mark::Unsettled } else { Mark::Settled(None) };
            Ok(Head { row: row.get(0)?, seq: row.get(1)?, mark })
        })
        .optional()
    }

    fn start(
        &mut self,
        heads: &Heads,
        append: &Append,
        new: &NewInstance,
        refusal: Option<&str>,
    ) -> rusqlite::Result<Result<Appended, Error>> {
        if let Some(refusal) = refusal {
            // Who asks again for what has begun still gets his answer.
            if let Some(head) = self.head(heads, append.instance)? {
                return self.late(append, head);
            }
            let used = match &new.request {
                Some(request) => self.used(request)?,
                None => None,
            };
            return Ok(used.ok_or_else(|| Error::Full(refusal.to_owned())));
        }
        let kind = self.kind(new)?;
        let (status, ended_at, expires_at) = columns(append.record);
        let request = new.request.as_ref().map(request_key);
        let inserted = self.insert_instance.execute(params![
            append.instance.0,
            kind,
            new.owner,
            status.word(),
            new.started_at.0,
            ended_at,
            expires_at,
            request
        ])?;
        if inserted == 0 {
            return match self.head(heads, append.instance)? {
                Some(head) => self.late(append, head),
                None => Ok(Err(Error::Broken(format!("the record of {} has no journal", append.instance)))),
            };
        }
        if let (Some(key), Some(request)) = (request, &new.request) {
            let mut insert =
                self.conn.prepare_cached("INSERT INTO request(key, input_hash, instance) VALUES(?1, ?2, ?3) ON CONFLICT DO NOTHING")?;
            if insert.execute(params![key, request.input_hash, append.instance.0])? == 0 {
                self.conn.prepare_cached("DELETE FROM instance WHERE id = ?1")?.execute([append.instance.0])?;
                let used = self.used(request)?;
                return Ok(used.ok_or_else(|| Error::Broken("a request id is there and is not".to_owned())));
            }
        }
        self.write_row(append, 0)?;
        if append.settled >= append.seq && ended_at.is_some() {
            self.change(append, RecordChange { status, ended: append.record.and_then(|change| change.ended) })?;
        }
        Ok(Ok(Appended::Done))
    }

    fn write_row(&mut self, append: &Append, prev: i64) -> rusqlite::Result<()> {
        let row = self.next_row + i64::try_from(self.staged.rows.len()).unwrap_or(0);
        let token = append.token.cast_signed();
        self.insert_row.execute(params![row, append.instance.0, append.seq, prev, append.settled, token, append.row])?;
        self.staged.rows.push((row, append.instance));
        let mark = if append.settled >= append.seq { Mark::Settled(None) } else { Mark::Unsettled };
        let head = Head { row, seq: append.seq, mark };
        self.staged.heads.insert(append.instance, Some(head));
        Ok(())
    }

    fn change(&mut self, append: &Append, change: RecordChange) -> rusqlite::Result<()> {
        let (status, ended_at, expires_at) = columns(Some(change));
        let id = append.instance.0;
        match self.staged.heads.get(&append.instance) {
            // Nothing is left to do for it: the record is written once instead of twice.
            Some(Some(head)) if ended_at.is_some() && head.mark != Mark::Unsettled => {
                self.end_settled.execute(params![id, status.word(), ended_at, expires_at, head.row, head.seq])?;
                self.staged.heads.insert(append.instance, None);
            }
            _ => {
                self.change_status.execute(params![id, status.word(), ended_at, expires_at])?;
            }
        }
        Ok(())
    }

    /// The journal is not where the append expects it.
    fn late(&self, append: &Append, head: Head) -> rusqlite::Result<Result<Appended, Error>> {
        if append.seq > head.seq || append.seq == 0 {
            let Append { instance, seq, .. } = append;
            return Ok(Err(Error::Broken(format!("row {seq} cannot follow row {} of {instance}", head.seq))));
        }
        let found = chain::token(self.conn, head.row, head.seq, append.seq).and_then(|token| {
            if token == append.token {
                return Ok(Appended::Same);
            }
            chain::rows(self.conn, head.row, head.seq, append.seq - 1, usize::MAX).map(Appended::Behind)
        });
        match found {
            Ok(appended) => Ok(Ok(appended)),
            Err(chain::Error::Sql(error)) => Err(error),
            Err(error @ chain::Error::Damaged(_)) => Ok(Err(error.into())),
        }
    }

    fn used(&self, request: &RequestKey) -> rusqlite::Result<Option<Appended>> {
        let mut read = self.conn.prepare_cached("SELECT instance, input_hash FROM request WHERE key = ?1")?;
        read.query_row([request_key(request)], |row| {
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
            .prepare_cached("SELECT kind FROM kind WHERE workflow = ?1 AND version = ?2 AND definition = ?3")?
            .query_row(values, |row| row.get(0))?;
        self.kinds.insert(key, kind);
        Ok(kind)
    }
}

/// Status, end and end of keeping, as stored.
fn columns(change: Option<RecordChange>) -> (Status, Option<i64>, Option<i64>) {
    let Some(RecordChange { status, ended }) = change else { return (Status::Pending, None, None) };
    (status, ended.map(|(at, _)| at.0), ended.map(|(at, keep_ms)| at.plus_ms(keep_ms).0))
}

/// Short, so that many of them share a page: request ids are in no order, and each start touches one page of them.
pub(super) fn request_key(request: &RequestKey) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(u64::try_from(request.scope.len()).unwrap_or(u64::MAX).to_be_bytes());
    hash.update(request.scope.as_bytes());
    hash.update(request.id.as_bytes());
    let digest = hash.finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}
