//! Checkpoints: copies committed pages from the log to the database, on a separate connection and
//! thread, so that no commit has to.
//!
//! While commits continue, a checkpoint never quite reaches the end of the log, and only a fully
//! copied log can be restarted. So when the log is long, the committer is held at a gate for the
//! last few pages. Only then would SQLite sync the database, with everything copied since the last
//! time; so that the committer need not wait for that, this module syncs after each pass, before it
//! closes the gate.

use std::fs::File;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB};

use super::OnFatal;
use super::error::{broken, is_fatal};
use crate::store::Error;
use crate::supervise;

/// A checkpoint begins every so many pages: few, because copying takes a core and the disk from
/// what waits for a commit.
const STEP_PAGES: i32 = 500;

/// From this length on the log is forced to restart.
const RESET_PAGES_MIN: i32 = 16_000;

/// The committer is held when only so many pages are left, or after [`ROUNDS_MAX`] rounds.
const HOLD_PAGES_MAX: i32 = 100;

const ROUNDS_MAX: usize = 5;

/// Either the committer is inside, or the checkpointer has closed it.
#[derive(Debug, Default)]
pub(super) struct CheckpointGate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: bool,
    closed: bool,
}

/// In the gate, or holding it closed.
pub(super) struct GatePass<'g> {
    gate: &'g CheckpointGate,
    closes: bool,
}

impl CheckpointGate {
    pub fn enter(&self) -> GatePass<'_> {
        let mut state = self.wait_while(|state| state.closed);
        state.inside = true;
        GatePass { gate: self, closes: false }
    }

    fn close(&self) -> GatePass<'_> {
        self.lock().closed = true;
        drop(self.wait_while(|state| state.inside));
        GatePass { gate: self, closes: true }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, condition: impl Fn(&mut State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(self.lock(), condition).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GatePass<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        if self.closes {
            state.closed = false;
        } else {
            state.inside = false;
        }
        drop(state);
        self.gate.changed.notify_one();
    }
}

/// The committer's end: tells how long the log is.
pub(super) struct CheckpointTrigger {
    /// How long the log is.
    pages: Arc<AtomicI32>,
    /// When the checkpointer was last notified.
    seen_pages: AtomicI32,
    wake: SyncSender<()>,
}

impl CheckpointTrigger {
    /// Called after each commit.
    pub fn log_has(&self, pages: i32) {
        self.pages.store(pages, Ordering::Relaxed);
        let seen = self.seen_pages.load(Ordering::Relaxed);
        // A log that is shorter than before was restarted.
        if pages < seen || pages - seen >= STEP_PAGES {
            self.seen_pages.store(pages, Ordering::Relaxed);
            if pages >= STEP_PAGES {
                // Full: it is notified already.
                let _ = self.wake.try_send(());
            }
        }
    }
}

/// Runs until the [`CheckpointTrigger`] is dropped.
pub(super) fn start(
    conn: Connection,
    database: Arc<File>,
    gate: Arc<CheckpointGate>,
    pages: Arc<AtomicI32>,
    on_fatal: OnFatal,
) -> Result<(CheckpointTrigger, JoinHandle<()>), Error> {
    let (wake, woken) = sync_channel(1);
    let run = move || {
        supervise::guard("the thread of checkpoints", || {
            run(&conn, &database, &gate, &woken, &on_fatal)
        })
    };
    let thread = thread::Builder::new()
        .name("crux-checkpoint".to_owned())
        .spawn(run)
        .map_err(|error| Error::Broken(format!("cannot start a thread: {error}")))?;
    Ok((CheckpointTrigger { pages, seen_pages: AtomicI32::new(0), wake }, thread))
}

fn run(
    conn: &Connection,
    database: &File,
    gate: &CheckpointGate,
    woken: &Receiver<()>,
    on_fatal: &OnFatal,
) {
    while woken.recv().is_ok() {
        match checkpoint(conn, database, gate) {
            Ok(()) => {}
            Err(Failed::Copy(error)) if !is_fatal(&error) => {
                // The log grows meanwhile; the next nudge tries again.
                tracing::warn!(%error, "checkpoint failed; retrying");
            }
            Err(Failed::Copy(error)) => {
                return on_fatal(&broken("a checkpoint could not be written", &error));
            }
            // The copied pages may be lost, and the operating system reports that only once.
            Err(Failed::Write(error)) => {
                return on_fatal(&Error::Broken(format!(
                    "a checkpoint could not be written to the disk: {error}"
                )));
            }
        }
    }
}

enum Failed {
    /// From the log to the database.
    Copy(rusqlite::Error),
    /// From the system's memory to the disk.
    Write(std::io::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Copy(error)
    }
}

fn checkpoint(conn: &Connection, database: &File, gate: &CheckpointGate) -> Result<(), Failed> {
    let copy = || conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE);
    let pass = || {
        let reached = copy()?;
        database.sync_data().map_err(Failed::Write)?;
        Ok::<_, Failed>(reached)
    };
    let (mut log, mut copied) = pass()?;
    if log < RESET_PAGES_MIN {
        return Ok(());
    }
    for _ in 0..ROUNDS_MAX {
        if log - copied <= HOLD_PAGES_MAX {
            break;
        }
        (log, copied) = pass()?;
    }
    let closed = gate.close();
    copy()?;
    drop(closed);
    Ok(())
}
