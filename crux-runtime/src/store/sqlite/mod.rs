//! The store in one SQLite file, for one process. One thread writes ([`committer`]), a few read
//! ([`readers`]), one moves the log into the database ([`checkpoint`]); callers only wait for
//! answers. An answered append is on the disk: the loss window is 0.
//!
//! Start reading at [`schema`], then [`append`]. No SQL is written outside this folder.

mod append;
mod bulk_insert;
mod checkpoint;
mod commit_record;
mod committer;
mod error;
mod flush;
mod flush_policy;
mod free_space;
mod instance_chain;
mod list;
mod lock;
mod queue;
mod read;
mod readers;
mod record_delta;
mod recovery;
mod schema;
mod unflushed;
mod wal_preallocation;
mod write;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use self::commit_record::{CommitRecordFile, OpenCheck};
use self::committer::Committer;
use self::error::closed;
use self::lock::Lock;
use self::queue::Queue;
use self::readers::Readers;
use super::{
    Append, Appended, Count, Error, Filter, InUse, KeptEvent, Pending, Record, Seq, Settled, Store,
    Stored, Subscription, UndeliveredEvent,
};
use crate::id::InstanceId;
use crate::machine::Time;
use crate::store::sqlite::free_space::FreeSpace;
use crate::store::sqlite::unflushed::Unflushed;
use crate::supervise;

/// What to do when it is not known any more what is on the disk. The default logs and ends the
/// process; a restart then finds out.
pub type OnFatal = Arc<dyn Fn(&Error) + Send + Sync>;

/// Where the store is, and its sizes.
#[derive(Clone)]
pub struct Options {
    /// The database, or a link to it; its log, its index and its lock file are beside it.
    pub path: PathBuf,
    /// Threads that read.
    pub readers: usize,
    /// Starts and events are refused ([`Error::Full`]) while less than this is free, so that what
    /// has begun can go on.
    pub reserve_bytes: u64,
    pub on_fatal: OnFatal,
}

impl Options {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), readers: 2, reserve_bytes: 64 << 20, on_fatal: Arc::new(abort) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, readers, reserve_bytes, on_fatal: _ } = self;
        f.debug_struct("Options")
            .field("path", path)
            .field("readers", readers)
            .field("reserve_bytes", reserve_bytes)
            .finish_non_exhaustive()
    }
}

fn abort(error: &Error) {
    supervise::end_process(&format_args!(
        "it cannot know what is on the disk, which a restart reads again: {error}"
    ))
}

/// See the module.
pub struct Sqlite {
    queue: Queue,
    readers: Readers,
    unflushed: Arc<Unflushed>,
    space: FreeSpace,
    committer: Option<thread::JoinHandle<()>>,
}

impl Sqlite {
    /// Opens the store, or makes it; waits for the disk. It must be the only one on that path.
    pub fn open(options: Options) -> Result<Self, Error> {
        let Options { path, readers, reserve_bytes, on_fatal } = options;
        let lock = Lock::take(&path)?;
        let path = lock.path.clone();
        let before = OpenCheck::run(&lock)?;
        let conn = schema::open_writer(&path)?;
        let commit_record = CommitRecordFile::take(&conn, lock, before)?;
        let unflushed = Arc::new(Unflushed::default());
        let space = FreeSpace::of(&path, reserve_bytes);
        let (queue, jobs) = Queue::new();
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let committer = Committer {
            conn,
            commit_record,
            unflushed: unflushed.clone(),
            space: space.clone(),
            on_fatal,
        };
        let thread = thread::Builder::new()
            .name("crux-commit".to_owned())
            .spawn(move || {
                let on_fatal = committer.on_fatal.clone();
                let run = std::panic::AssertUnwindSafe(move || committer.run(&jobs, &ready));
                if std::panic::catch_unwind(run).is_err() {
                    on_fatal(&Error::Broken("the thread that writes panicked".to_owned()));
                }
            })
            .map_err(|error| Error::Broken(format!("cannot start a thread: {error}")))?;
        is_ready.recv().map_err(|_| closed())??;
        let readers = Readers::start(&path, readers)?;
        Ok(Self { queue, readers, unflushed, space, committer: Some(thread) })
    }
}

impl Drop for Sqlite {
    /// As [`Store::close`], without an answer.
    fn drop(&mut self) {
        let closing = self.queue.close(self.readers.close());
        drop(closing);
        if let Some(committer) = self.committer.take() {
            // A committer that panicked sent no answer.
            let _ = committer.join();
        }
    }
}

impl Store for Sqlite {
    fn append(&self, batch: Vec<Append>) -> Pending<Vec<Result<Appended, Error>>> {
        self.queue.append(batch)
    }

    fn settle(&self, batch: Vec<Settled>) -> Pending<Result<(), Error>> {
        self.queue.settle(batch)
    }

    fn record(&self, instance: InstanceId) -> Pending<Result<Option<Record>, Error>> {
        let unflushed = self.unflushed.clone();
        self.readers.ask(move |conn| read::record(conn, &unflushed, instance))
    }

    fn rows(
        &self,
        instance: InstanceId,
        after: Seq,
        limit: usize,
    ) -> Pending<Result<Vec<Stored>, Error>> {
        let unflushed = self.unflushed.clone();
        self.readers.ask(move |conn| read::rows(conn, &unflushed, instance, after, limit))
    }

    fn list(&self, filter: Filter) -> Pending<Result<Vec<Record>, Error>> {
        let unflushed = self.unflushed.clone();
        self.readers.ask(move |conn| list::list(conn, &unflushed, &filter))
    }

    fn unsettled(
        &self,
        after: Option<InstanceId>,
        limit: usize,
    ) -> Pending<Result<Vec<InstanceId>, Error>> {
        let unflushed = self.unflushed.clone();
        self.readers.ask(move |conn| read::unsettled(conn, &unflushed, after, limit))
    }

    fn due(
        &self,
        after: Option<(Time, InstanceId)>,
        until: Time,
        limit: usize,
    ) -> Pending<Result<Vec<(Time, InstanceId)>, Error>> {
        let unflushed = self.unflushed.clone();
        self.readers.ask(move |conn| read::due(conn, &unflushed, after, until, limit))
    }

    fn subscribe(&self, batch: Vec<Subscription>) -> Pending<Result<(), Error>> {
        self.queue.write(batch.len(), false, move |conn| write::subscribe(conn, &batch))
    }

    fn unsubscribe(&self, batch: Vec<Subscription>) -> Pending<Result<(), Error>> {
        self.queue.write(batch.len(), false, move |conn| write::unsubscribe(conn, &batch))
    }

    fn subscribers(
        &self,
        event: String,
        value: Option<String>,
        after: Option<Subscription>,
        limit: usize,
    ) -> Pending<Result<Vec<Subscription>, Error>> {
        self.readers.ask(move |conn| {
            read::subscribers(conn, &event, value.as_deref(), after.as_ref(), limit)
        })
    }

    fn keep(&self, batch: Vec<KeptEvent>) -> Pending<Result<Vec<bool>, Error>> {
        self.queue.write(batch.len(), true, move |conn| write::keep(conn, &batch))
    }

    fn kept(
        &self,
        event: String,
        value: Option<String>,
        now: Time,
    ) -> Pending<Result<Vec<KeptEvent>, Error>> {
        self.readers.ask(move |conn| read::kept(conn, &event, value.as_deref(), now))
    }

    fn delivered(&self, batch: Vec<(String, String)>) -> Pending<Result<(), Error>> {
        self.queue.write(batch.len(), false, move |conn| write::delivered(conn, &batch))
    }

    fn started(&self, batch: Vec<(String, String)>) -> Pending<Result<(), Error>> {
        self.queue.write(batch.len(), false, move |conn| write::started(conn, &batch))
    }

    fn undelivered(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Pending<Result<Vec<UndeliveredEvent>, Error>> {
        self.readers.ask(move |conn| read::undelivered(conn, after.as_deref(), limit))
    }

    fn in_use(&self) -> Pending<Result<Vec<InUse>, Error>> {
        self.readers.ask(read::in_use)
    }

    fn count(&self, workflows: Vec<String>) -> Pending<Result<Vec<Count>, Error>> {
        let unflushed = self.unflushed.clone();
        self.readers.ask(move |conn| read::count(conn, &unflushed, &workflows))
    }

    fn define(&self, hash: String, document: String) -> Pending<Result<(), Error>> {
        self.queue.write(1, false, move |conn| write::define(conn, &hash, &document))
    }

    fn definition(&self, hash: String) -> Pending<Result<Option<String>, Error>> {
        self.readers.ask(move |conn| read::definition(conn, &hash))
    }

    fn expire(&self, now: Time, limit: usize) -> Pending<Result<usize, Error>> {
        let expired = self.readers.ask(move |conn| read::expired(conn, now, limit));
        let events = self.queue.write(1, false, move |conn| write::forget_events(conn, now, limit));
        let (queue, unflushed) = (self.queue.clone(), self.unflushed.clone());
        Box::pin(async move {
            events.await?;
            let mut rest = expired.await?;
            let mut count = 0;
            loop {
                let (batch, unflushed) = (rest.clone(), unflushed.clone());
                let removed = queue
                    .write(1, false, move |conn| write::remove(conn, &unflushed, &batch, now))
                    .await?;
                count += removed.instances;
                rest.drain(..removed.seen);
                if rest.is_empty() && !removed.rows_left {
                    return Ok(count);
                }
            }
        })
    }

    fn free_bytes(&self) -> Option<u64> {
        self.space.free_bytes()
    }

    fn close(&self) -> Pending<Result<(), Error>> {
        match self.queue.close(self.readers.close()) {
            Some(answer) => Box::pin(async move { answer.await.map_err(|_| closed())? }),
            None => Box::pin(async { Err(closed()) }),
        }
    }
}
