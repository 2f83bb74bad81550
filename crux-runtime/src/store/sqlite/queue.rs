//! The committer's queue. It is bounded by the number of rows and records in it, not by the number
//! of callers: beyond the bound callers wait before they may enter.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use super::error::closed;
use crate::store::{Append, Appended, Error, Pending, Settled};

/// Rows and records that may wait.
const QUEUE_LEN_MAX: usize = 32_768;

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Held by a job until it is answered.
pub(super) type Room = OwnedSemaphorePermit;

pub(super) enum Job {
    Append(Appending),
    Settle {
        batch: Vec<Settled>,
        reply: Reply<()>,
        room: Room,
    },
    Write(Box<dyn Write>),
    /// The readers' threads, which are ending.
    Close {
        readers: Vec<JoinHandle<()>>,
        reply: Option<Reply<()>>,
    },
}

pub(super) struct Appending {
    pub batch: Vec<Append>,
    /// One per row of the batch, filled while the transaction is open.
    pub results: Vec<Result<Appended, Error>>,
    pub reply: Reply<Vec<Result<Appended, Error>>>,
    pub room: Room,
}

/// Any other change, made in the transaction of a group. It may run twice: the first time in a
/// transaction that is rolled back.
pub(super) trait Write: Send {
    fn run(&mut self, conn: &Connection) -> rusqlite::Result<()>;

    /// Whether it brings new work, which is refused first when the disk gets full.
    fn grows(&self) -> bool;

    /// Instead of [`Write::run`].
    fn refuse(&mut self, error: Error);

    fn answer(self: Box<Self>, result: Result<(), Error>);
}

struct Typed<F, T> {
    run: F,
    grows: bool,
    done: Result<T, Error>,
    reply: Reply<T>,
    _room: Room,
}

impl<F, T> Write for Typed<F, T>
where
    F: FnMut(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.done = Ok((self.run)(conn)?);
        Ok(())
    }

    fn grows(&self) -> bool {
        self.grows
    }

    fn refuse(&mut self, error: Error) {
        self.done = Err(error);
    }

    fn answer(self: Box<Self>, result: Result<(), Error>) {
        // A caller that has gone away needs no answer.
        let _ = self.reply.send(result.and(self.done));
    }
}

/// The callers' end.
#[derive(Clone)]
pub(super) struct Queue {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
}

impl Queue {
    pub fn new() -> (Self, mpsc::Receiver<Job>) {
        let (jobs, receiver) = mpsc::channel();
        (Self { jobs, room: Arc::new(Semaphore::new(QUEUE_LEN_MAX)) }, receiver)
    }

    pub fn append(&self, batch: Vec<Append>) -> Pending<Vec<Result<Appended, Error>>> {
        let count = batch.len();
        let answered = self.submit(count, move |reply, room| {
            let results = Vec::with_capacity(count);
            Job::Append(Appending { batch, results, reply, room })
        });
        Box::pin(async move { answered.await.unwrap_or_else(|error| vec![Err(error); count]) })
    }

    pub fn settle(&self, batch: Vec<Settled>) -> Pending<Result<(), Error>> {
        self.submit(batch.len(), |reply, room| Job::Settle { batch, reply, room })
    }

    /// `count` is what it writes, for the bound of the queue.
    pub fn write<T, F>(&self, count: usize, grows: bool, run: F) -> Pending<Result<T, Error>>
    where
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.submit(count, move |reply, room| {
            Job::Write(Box::new(Typed { run, grows, done: Err(closed()), reply, _room: room }))
        })
    }

    /// Takes nothing more; what is in the queue is done first. `None`: it had been closed before.
    pub fn close(
        &self,
        readers: Vec<JoinHandle<()>>,
    ) -> Option<oneshot::Receiver<Result<(), Error>>> {
        if self.room.is_closed() {
            return None;
        }
        self.room.close();
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Close { readers, reply: Some(reply) }).ok()?;
        Some(answer)
    }

    /// In the queue immediately if there is room, so that nothing waits for a task to be scheduled.
    fn submit<T: Send + 'static>(
        &self,
        count: usize,
        job: impl FnOnce(Reply<T>, Room) -> Job + Send + 'static,
    ) -> Pending<Result<T, Error>> {
        let count = u32::try_from(count.clamp(1, QUEUE_LEN_MAX)).unwrap_or(1);
        let (reply, answer) = oneshot::channel();
        match self.room.clone().try_acquire_many_owned(count) {
            Ok(room) => {
                let sent = self.jobs.send(job(reply, room));
                Box::pin(async move {
                    sent.map_err(|_| closed())?;
                    answer.await.map_err(|_| closed())?
                })
            }
            Err(TryAcquireError::Closed) => Box::pin(async { Err(closed()) }),
            Err(TryAcquireError::NoPermits) => {
                let (jobs, room) = (self.jobs.clone(), self.room.clone());
                Box::pin(async move {
                    let room = room.acquire_many_owned(count).await.map_err(|_| closed())?;
                    jobs.send(job(reply, room)).map_err(|_| closed())?;
                    answer.await.map_err(|_| closed())?
                })
            }
        }
    }
}
