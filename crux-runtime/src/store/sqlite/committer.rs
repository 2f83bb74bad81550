//! The committer: the only thread that writes to the database. It takes all waiting jobs, without
//! waiting for more, and commits them as one group; answers are sent after the commit. For example:
//! 40 shards' batches arrive while the last commit syncs; they become one transaction and one sync,
//! and then 40 answers.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB};

use super::append::Appender;
use super::checkpoint::CheckpointGate;
use super::commit_record::{CommitRecordFile, FilesState};
use super::error::{before_commit, broken, closed, is_fatal, is_full};
use super::queue::{Job, Reply};
use super::{OnFatal, checkpoint, recovery, schema};
use crate::store::sqlite::flush::RecordWriter;
use crate::store::sqlite::flush_policy::{FlushBatch, FlushQueue};
use crate::store::sqlite::free_space::FreeSpace;
use crate::store::sqlite::unflushed::{Unflushed, UnsettledFlag};
use crate::store::sqlite::wal_preallocation::WalPreallocation;
use crate::store::{Error, Settled};

/// A group has at most about so many rows, so that its first callers do not wait for all.
const GROUP_ROWS_MAX: usize = 1_024;

/// How often the existence of the files is checked.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread owns.
pub(super) struct Committer {
    pub conn: Connection,
    pub commit_record: CommitRecordFile,
    pub unflushed: Arc<Unflushed>,
    pub space: FreeSpace,
    pub on_fatal: OnFatal,
}

impl Committer {
    /// Recovers from the journal's tail, then runs until it is closed or all callers are gone.
    pub fn run(self, jobs: &Receiver<Job>, ready: &SyncSender<Result<(), Error>>) {
        // The lock is left last, whichever way it ends.
        let Self { mut commit_record, mut conn, unflushed, space, on_fatal } = self;
        let gate = Arc::new(CheckpointGate::default());
        let database = commit_record.lock().database.clone();
        let pages = Arc::new(AtomicI32::new(0));
        let checkpoints =
            match start_checkpoints(&mut conn, database, &gate, pages.clone(), &on_fatal) {
                Ok(thread) => thread,
                Err(error) => return drop(ready.send(Err(error))),
            };
        let last = match Groups::new(
            &conn,
            &mut commit_record,
            unflushed,
            space,
            on_fatal,
            &gate,
            pages,
        ) {
            Err(error) => return drop(ready.send(Err(error))),
            Ok(mut groups) => {
                // The opener waits for this; if it is gone, the queue is closed as well.
                let _ = ready.send(Ok(()));
                groups.run(jobs)
            }
        };
        let (readers, reply, written) = last;
        for reader in readers {
            // A reader that panicked has lost its own question only.
            let _ = reader.join();
        }
        // Dropping the hook ends the checkpointer.
        let unhooked =
            conn.wal_hook(None::<fn(&mut rusqlite::hooks::Wal, i32) -> rusqlite::Result<()>>);
        if unhooked.is_ok() {
            let _ = checkpoints.join();
        }
        let closed = written.and_then(|()| {
            conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::TRUNCATE)
                .map_err(|error| before_commit(&error))?;
            commit_record.closed();
            schema::delete_log_on_close(&conn).map_err(|error| before_commit(&error))
        });
        drop(conn);
        drop(commit_record);
        if let Some(reply) = reply {
            let _ = reply.send(closed);
        }
    }
}

fn start_checkpoints(
    conn: &mut Connection,
    database: Arc<File>,
    gate: &Arc<CheckpointGate>,
    pages: Arc<AtomicI32>,
    on_fatal: &OnFatal,
) -> Result<JoinHandle<()>, Error> {
    let path = conn.path().unwrap_or_default().to_owned();
    let own = schema::open_checkpointer(path.as_ref())?;
    let (nudge, thread) = checkpoint::start(own, database, gate.clone(), pages, on_fatal.clone())?;
    let hook = move |_: &mut rusqlite::hooks::Wal, pages| {
        nudge.log_has(pages);
        Ok(())
    };
    conn.wal_hook(Some(hook)).map_err(|error| broken("cannot watch the log", &error))?;
    Ok(thread)
}

type Last = (Vec<JoinHandle<()>>, Option<Reply<()>>, Result<(), Error>);

struct Groups<'c> {
    conn: &'c Connection,
    commit_record: &'c mut CommitRecordFile,
    looked: Instant,
    ahead: WalPreallocation,
    appender: Appender<'c>,
    records: RecordWriter<'c>,
    tail: FlushQueue,
    unflushed: Arc<Unflushed>,
    space: FreeSpace,
    on_fatal: OnFatal,
    gate: &'c CheckpointGate,
    /// After an error that leaves the disk unknown nothing is written any more.
    broken: Option<Error>,
}

impl<'c> Groups<'c> {
    fn new(
        conn: &'c Connection,
        commit_record: &'c mut CommitRecordFile,
        unflushed: Arc<Unflushed>,
        space: FreeSpace,
        on_fatal: OnFatal,
        gate: &'c CheckpointGate,
        pages: Arc<AtomicI32>,
    ) -> Result<Self, Error> {
        let (tail, next_row) = recovery::read_tail(conn, &unflushed, Instant::now())?;
        let prepared = Appender::new(conn, next_row)
            .and_then(|appender| Ok((appender, RecordWriter::new(conn)?)));
        let (appender, records) = prepared.map_err(|error| before_commit(&error))?;
        let ahead = WalPreallocation::of(conn, pages);
        let looked = Instant::now();
        Ok(Self {
            conn,
            commit_record,
            looked,
            ahead,
            appender,
            records,
            tail,
            unflushed,
            space,
            on_fatal,
            gate,
            broken: None,
        })
    }

    fn run(&mut self, jobs: &Receiver<Job>) -> Last {
        let mut group = Vec::new();
        loop {
            match self.wait(jobs) {
                Ok(job) => group.push(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return (Vec::new(), None, self.flush()),
            }
            let mut rows = group.first().map_or(0, rows_of);
            while rows < GROUP_ROWS_MAX
                && let Ok(job) = jobs.try_recv()
            {
                rows += rows_of(&job);
                group.push(job);
            }
            let close = group.iter().position(|job| matches!(job, Job::Close { .. }));
            let last = close.map(|at| group.swap_remove(at));
            self.commit(&mut group);
            if let Some(Job::Close { readers, reply }) = last {
                return (readers, reply, self.flush());
            }
        }
    }

    fn wait(&self, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        match self.tail.next().filter(|_| self.broken.is_none()) {
            Some(at) => jobs.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Does all of `group`, in one transaction, and answers.
    fn commit(&mut self, group: &mut Vec<Job>) {
        if let Some(error) = &self.broken {
            return group.drain(..).for_each(|job| answer(job, Err(error.clone())));
        }
        let now = Instant::now();
        if let Err(error) = self.look(now) {
            return group.drain(..).for_each(|job| answer(job, Err(error.clone())));
        }
        self.settle(group, now);
        let grows = group.iter().any(grows);
        let refusal = if grows { self.space.refusal() } else { None };
        let mut done = self.transaction(group, now, refusal.as_deref());
        if let Err(Error::Full(text)) = &done
            && grows
            && refusal.is_none()
        {
            // What has begun goes first.
            done = self.transaction(group, now, Some(&text.clone()));
        }
        group.drain(..).for_each(|job| answer(job, done.clone()));
    }

    /// Nothing is acknowledged that will be gone with the process.
    fn look(&mut self, now: Instant) -> Result<(), Error> {
        if now.saturating_duration_since(self.looked) < FILE_CHECK_INTERVAL {
            return Ok(());
        }
        self.looked = now;
        let path = self.commit_record.lock().path.display();
        match self.commit_record.files_state() {
            FilesState::InPlace => Ok(()),
            FilesState::LogReplaced => {
                tracing::error!(
                    "{path}-wal was removed while it is in use: a crash would lose what is in it. Stop this process gracefully, with SIGTERM, which \
                     brings all of it into {path}"
                );
                Ok(())
            }
            FilesState::DatabaseReplaced => {
                let text = format!(
                    "{path} was removed or replaced while it is in use, and nothing more is written. What is in it is there as long as this \
                     process runs: on Linux the file and its log can be copied from /proc/{}/fd",
                    std::process::id()
                );
                tracing::error!("{text}");
                let error = Error::Broken(text);
                self.broken = Some(error.clone());
                Err(error)
            }
        }
    }

    fn transaction(
        &mut self,
        group: &mut [Job],
        now: Instant,
        refusal: Option<&str>,
    ) -> Result<(), Error> {
        let writes = group.iter().any(|job| !matches!(job, Job::Settle { .. }));
        if !writes && self.tail.due(now, &self.unflushed).is_empty() {
            return Ok(());
        }
        let _passage = self.gate.enter();
        let lazy = match self.fill(group, now, refusal) {
            Ok(lazy) => lazy,
            Err(error) => {
                self.roll_back();
                return Err(before_commit(&error));
            }
        };
        self.finish(&lazy, now)
    }

    /// Everything up to the commit.
    fn fill(
        &mut self,
        group: &mut [Job],
        now: Instant,
        refusal: Option<&str>,
    ) -> rusqlite::Result<FlushBatch> {
        self.appender.clear();
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        // First what is old, as it was when the transaction began; then instances may move.
        let lazy = self.tail.due(now, &self.unflushed);
        self.records.write(&lazy)?;
        let mut changes = false;
        for job in group {
            match job {
                Job::Append(appending) => {
                    appending.results.clear();
                    for append in &appending.batch {
                        appending.results.push(self.appender.append(
                            &self.unflushed,
                            append,
                            refusal,
                        )?);
                    }
                }
                Job::Write(write) => match refusal {
                    Some(refusal) if write.grows() => write.refuse(Error::Full(refusal.to_owned())),
                    _ => {
                        self.appender.flush()?;
                        write.run(self.conn)?;
                        changes = true;
                    }
                },
                Job::Settle { .. } | Job::Close { .. } => {}
            }
        }
        self.appender.flush()?;
        self.commit_record.stamp(self.conn, !self.appender.staged.rows.is_empty(), changes)?;
        self.ahead.make_room();
        Ok(lazy)
    }

    fn finish(&mut self, lazy: &FlushBatch, now: Instant) -> Result<(), Error> {
        if let Err(error) =
            self.conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]))
        {
            if is_fatal(&error) {
                let error = broken("a commit failed and what is on the disk is not known", &error);
                self.broken = Some(error.clone());
                (self.on_fatal)(&error);
                return Err(error);
            }
            self.roll_back();
            return Err(if is_full(&error) {
                before_commit(&error)
            } else {
                Error::Unavailable(error.to_string())
            });
        }
        self.commit_record.committed();
        self.tail.written(lazy);
        for (row, instance) in &self.appender.staged.rows {
            self.tail.appended(*row, *instance);
        }
        for (instance, moved) in &self.appender.staged.moved {
            let rests = moved.mark != UnsettledFlag::Unsettled
                || moved.change.is_some_and(|change| change.ended_at.is_some());
            if rests || moved.change.is_some() {
                self.tail.changed(now, *instance, rests);
            }
        }
        self.unflushed.committed(
            lazy.entries.iter().map(|(instance, _)| instance),
            self.appender.staged.moved.drain(),
        );
        self.appender.committed();
        Ok(())
    }

    fn roll_back(&mut self) {
        self.appender.rolled_back();
        // SQLite has rolled back by itself after some errors.
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            let error = broken("a transaction can neither be ended nor undone", &error);
            self.broken = Some(error.clone());
            (self.on_fatal)(&error);
        }
    }

    /// In memory now, on disk when the instances stay as they are for a while. What cannot be
    /// done is answered, and no part of the group any more.
    fn settle(&mut self, group: &mut Vec<Job>, now: Instant) {
        let mut at = 0;
        while let Some(job) = group.get(at) {
            let Job::Settle { batch, .. } = job else {
                at += 1;
                continue;
            };
            match batch.iter().try_for_each(|settled| self.settle_one(*settled, now)) {
                Ok(()) => at += 1,
                Err(error) => answer(group.remove(at), Err(before_commit(&error))),
            }
        }
    }

    fn settle_one(&mut self, settled: Settled, now: Instant) -> rusqlite::Result<()> {
        self.appender.clear();
        let head = self.appender.head(&self.unflushed, settled.instance)?;
        if let Some(head) = head.filter(|head| head.seq == settled.seq) {
            self.unflushed.settle(settled.instance, head, settled.wake_at);
            self.tail.changed(now, settled.instance, true);
        }
        Ok(())
    }

    /// Flushes all records, and marks the journal as flushed.
    fn flush(&mut self) -> Result<(), Error> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let lazy = self.tail.all(&self.unflushed);
        self.appender.clear();
        let written = self
            .conn
            .execute_batch("BEGIN IMMEDIATE")
            .and_then(|()| self.records.write(&lazy))
            .and_then(|()| self.commit_record.stamp_closed(self.conn));
        if let Err(error) = written {
            self.roll_back();
            return Err(before_commit(&error));
        }
        self.finish(&lazy, Instant::now())
    }
}

fn rows_of(job: &Job) -> usize {
    match job {
        Job::Append(appending) => appending.batch.len(),
        Job::Settle { .. } | Job::Write(_) | Job::Close { .. } => 1,
    }
}

fn grows(job: &Job) -> bool {
    match job {
        Job::Append(appending) => appending.batch.iter().any(|append| append.start.is_some()),
        Job::Write(write) => write.grows(),
        Job::Settle { .. } | Job::Close { .. } => false,
    }
}

/// The receiver may have been dropped; ignore.
fn answer(job: Job, done: Result<(), Error>) {
    match job {
        Job::Append(appending) => {
            let results = match done {
                Ok(()) => appending.results,
                Err(error) => vec![Err(error); appending.batch.len()],
            };
            let _ = appending.reply.send(Ok(results));
            drop(appending.room);
        }
        Job::Settle { reply, room, .. } => {
            let _ = reply.send(done);
            drop(room);
        }
        Job::Write(write) => write.answer(done),
        Job::Close { reply: Some(reply), .. } => drop(reply.send(Err(closed()))),
        Job::Close { reply: None, .. } => {}
    }
}
