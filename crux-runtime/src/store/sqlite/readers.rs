//! A few threads that read, each with a connection of its own. A question waits while too many
//! others do.

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
const ROOM: usize = 1_024;

type Question = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    desk: Arc<Desk>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Where questions are handed in.
struct Desk {
    /// `None`: closed. Nobody else keeps a copy, so that the threads end when it is gone.
    questions: Mutex<Option<mpsc::Sender<Question>>>,
    room: Arc<Semaphore>,
}

impl Readers {
    pub fn start(path: &Path, count: usize) -> Result<Self, Error> {
        let (questions, receiver) = mpsc::channel::<Question>();
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
        let desk =
            Desk { questions: Mutex::new(Some(questions)), room: Arc::new(Semaphore::new(ROOM)) };
        Ok(Self { desk: Arc::new(desk), threads: Mutex::new(threads) })
    }

    pub fn ask<T, F>(&self, question: F) -> Pending<Result<T, Error>>
    where
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let question = |room: OwnedSemaphorePermit| -> Question {
            Box::new(move |conn| {
                // Whoever asked may have gone away.
                let _ = reply.send(question(conn));
                drop(room);
            })
        };
        match self.desk.room.clone().try_acquire_owned() {
            Ok(room) => {
                let handed_in = self.desk.hand_in(question(room));
                Box::pin(async move {
                    handed_in?;
                    answer.await.map_err(|_| closed())?
                })
            }
            Err(TryAcquireError::Closed) => Box::pin(async { Err(closed()) }),
            Err(TryAcquireError::NoPermits) => {
                let desk = self.desk.clone();
                Box::pin(async move {
                    let room = desk.room.clone().acquire_owned().await.map_err(|_| closed())?;
                    desk.hand_in(question(room))?;
                    answer.await.map_err(|_| closed())?
                })
            }
        }
    }

    /// Takes no more questions. The threads end when they have answered what they have.
    pub fn close(&self) -> Vec<JoinHandle<()>> {
        self.desk.room.close();
        self.desk.questions.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::mem::take(&mut self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Desk {
    fn hand_in(&self, question: Question) -> Result<(), Error> {
        let questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.as_ref().ok_or_else(closed)?.send(question).map_err(|_| closed())
    }
}
