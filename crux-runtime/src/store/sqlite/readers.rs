//! A few threads that read, each with a connection of its own. A question waits while too many others do.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::error::closed;
use super::schema;
use crate::store::{Error, Pending};

/// Questions that may wait for a thread.
const ROOM: usize = 1_024;

type Question = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    questions: Mutex<Option<mpsc::Sender<Question>>>,
    room: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
                    question(&conn);
                }
            };
            let thread = thread::Builder::new().name("crux-read".to_owned()).spawn(run);
            threads.push(thread.map_err(|error| Error::Broken(format!("cannot start a thread: {error}")))?);
        }
        let threads = Mutex::new(threads);
        Ok(Self { questions: Mutex::new(Some(questions)), room: Arc::new(Semaphore::new(ROOM)), threads })
    }

    pub fn ask<T, F>(&self, question: F) -> Pending<Result<T, Error>>
    where
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let Some(questions) = self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Box::pin(async { Err(closed()) });
        };
        let room = self.room.clone();
        Box::pin(async move {
            let _room = room.acquire_owned().await.map_err(|_| closed())?;
            let (reply, answer) = oneshot::channel();
            let ask = move |conn: &Connection| {
                // Whoever asked may have gone away.
                let _ = reply.send(question(conn));
            };
            questions.send(Box::new(ask)).map_err(|_| closed())?;
            // Given back before the answer comes, so that closing does not wait for this task.
            drop(questions);
            answer.await.map_err(|_| closed())?
        })
    }

    /// Takes no more questions. The threads end when they have answered what they have.
    pub fn close(&self) -> Vec<JoinHandle<()>> {
        self.room.close();
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::mem::take(&mut self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
