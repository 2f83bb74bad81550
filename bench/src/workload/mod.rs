//! The workloads by name.

mod in_flight;
mod one_at_a_time;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::Outcome;
use crate::report::Row;

/// How to measure.
#[derive(Debug)]
pub struct Setting {
    /// Runs per figure; the median counts.
    pub runs: usize,
    /// Short runs, to see whether everything works.
    pub quick: bool,
    /// Without floors a profile shows Crux alone.
    pub floors: bool,
    /// Of workloads that come with several numbers of instances, only this one.
    pub only: Option<usize>,
    /// Where databases are made.
    pub directory: PathBuf,
}

impl Setting {
    /// How long a run with a constant load lasts. The full time is longer than the steps' time-out, so that what time-outs leave behind
    /// is in the figure.
    pub fn time(&self) -> Duration {
        if self.quick { Duration::from_secs(2) } else { Duration::from_secs(12) }
    }

    /// A directory for one run; it goes with its content when it is dropped.
    pub fn fresh(&self) -> Outcome<TempDir> {
        Ok(tempfile::Builder::new().prefix("crux-bench-").tempdir_in(&self.directory)?)
    }
}

/// Something to measure.
pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Setting) -> Outcome<Vec<Row>>,
}

/// In the order of the table.
pub const ALL: &[Workload] = &[
    Workload { name: "one", about: "ten steps one after the other, one instance at a time", run: one_at_a_time::run },
    Workload { name: "flight", about: "1, 16, 256 and 4,096 instances of ten steps in flight", run: in_flight::run },
];

/// The rows of one instance of `ten`, so that floors write the same bytes.
pub fn bodies(directory: &Path) -> Outcome<Vec<String>> {
    crate::crux::runtime()?.block_on(async {
        let crux = crate::crux::Crux::open(directory).await?;
        let instance = crux.ten(1).await?;
        let rows = crux.rows(instance).await?;
        crux.close().await;
        Ok(rows)
    })
}
