//! One thread that commits rows in groups: it takes what is there and never waits for company. What
//! the floors share that append.

use std::path::Path;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::rows::Journal;
use crate::Outcome;

/// How many rows one commit takes at most.
const GROUP: usize = 4096;

struct Job {
    instance: [u8; 16],
    seq: u32,
    prev: i64,
    body: String,
    done: oneshot::Sender<i64>,
}

/// Where rows are given to the thread. It ends with the last of these.
#[derive(Clone)]
pub struct Committer {
    jobs: mpsc::Sender<Job>,
}

/// The thread.
pub struct Committing(JoinHandle<Outcome<()>>);

impl Committer {
    pub fn begin(file: &Path) -> Outcome<(Self, Committing)> {
        let journal = Journal::open(file)?;
        let (jobs, queue) = mpsc::channel(2 * GROUP);
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || commit(journal, queue))?;
        Ok((Self { jobs }, Committing(thread)))
    }

    /// The row's number once it is durable; `None`: the thread has ended.
    pub async fn append(
        &self,
        instance: [u8; 16],
        seq: u32,
        prev: i64,
        body: String,
    ) -> Option<i64> {
        let (done, durable) = oneshot::channel();
        self.jobs.send(Job { instance, seq, prev, body, done }).await.ok()?;
        durable.await.ok()
    }
}

impl Committing {
    /// Waits for its end; why it ended early.
    pub fn end(self) -> Outcome<()> {
        self.0.join().map_err(|_| "the floor's committer panicked")?
    }
}

/// Commits what is there as one group, then answers.
fn commit(mut journal: Journal, mut queue: mpsc::Receiver<Job>) -> Outcome<()> {
    let mut group = Vec::with_capacity(GROUP);
    let mut numbers = Vec::with_capacity(GROUP);
    while queue.blocking_recv_many(&mut group, GROUP) > 0 {
        numbers.clear();
        journal.commit(
            group.iter().map(|job| (&job.instance, job.seq, job.prev, job.body.as_str())),
            &mut numbers,
        )?;
        for (job, number) in group.drain(..).zip(&numbers) {
            // The receiver is dropped only when the run is over.
            let _ = job.done.send(*number);
        }
    }
    Ok(())
}
