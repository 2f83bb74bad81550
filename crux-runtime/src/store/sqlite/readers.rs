//! A few reader threads, each with its own connection. A query waits while too many others do.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use super::error::closed;
use super::schema;
use crate::store::{Error, Pending};
use crate::supervise;

/// Questions that may wait for a thread.
const QUEUE_LEN_MAX: usize = 1_024;

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    queue: Arc<ReadQueue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The queue of queries.
struct ReadQueue {
    /// `None`: closed. Nobody else keeps a copy, so that the threads end when it is gone.
    questions: Mutex<Option<mpsc::Sender<ReadJob>>>,
    room: Arc<Semaphore>,
}

impl Readers {
    pub fn start(path: &Path, count: usize) -> Result<Self, Error> {
        let (questions, receiver) = mpsc::channel::<ReadJob>();
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            let conn = schema::open_reader(path)?;
            let receiver = receiver.clone();
            let run = move || {
                loop {
                    let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(question) = next else { return };
                    supervise::guard("a thread that reads the store", || question(&conn));
                }
            };
            let thread = thread::Builder::new().name("crux-read".to_owned()).spawn(run);
            threads.push(
                thread.map_err(|error| Error::Broken(format!("cannot start a thread: {error}")))?,
            );
        }
        let queue = ReadQueue {
            questions: Mutex::new(Some(questions)),
            room: Arc::new(Semaphore::new(QUEUE_LEN_MAX)),
        };
        Ok(Self { queue: Arc::new(queue), threads: Mutex::new(threads) })
    }

    pub fn ask<T, F>(&self, question: F) -> Pending<Result<T, Error>>
    where
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let question = |room: OwnedSemaphorePermit| -> ReadJob {
            Box::new(move |conn| {
                // The receiver may have been dropped; ignore.
                let _ = reply.send(question(conn));
                drop(room);
            })
        };
        match self.queue.room.clone().try_acquire_owned() {
            Ok(room) => {
                let handed_in = self.queue.hand_in(question(room));
                Box::pin(async move {
                    handed_in?;
                    answer.await.map_err(|_| closed())?
                })
            }
            Err(TryAcquireError::Closed) => Box::pin(async { Err(closed()) }),
            Err(TryAcquireError::NoPermits) => {
                let queue = self.queue.clone();
                Box::pin(async move {
                    let room = queue.room.clone().acquire_owned().await.map_err(|_| closed())?;
                    queue.hand_in(question(room))?;
                    answer.await.map_err(|_| closed())?
                })
            }
        }
    }

    /// Takes no more questions. The threads end when they have answered what they have.
    pub fn close(&self) -> Vec<JoinHandle<()>> {
        self.queue.room.close();
        self.queue.questions.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::mem::take(&mut self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ReadQueue {
    fn hand_in(&self, question: ReadJob) -> Result<(), Error> {
        let questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.as_ref().ok_or_else(closed)?.send(question).map_err(|_| closed())
    }
}
