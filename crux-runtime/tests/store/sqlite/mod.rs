//! What only the SQLite store has to do.

mod crash;
mod files;
mod full;
mod tampered;

use std::path::Path;

use crux_runtime::store::sqlite::{Options, Sqlite};

use crate::harness::Harness;

/// The folder lives as long as the harness.
fn harness() -> Harness {
    let folder = tempfile::tempdir().unwrap();
    Harness::new(move || open(folder.path()))
}

fn open(folder: &Path) -> Sqlite {
    Sqlite::open(Options::new(folder.join("crux.db"))).unwrap()
}

crate::suite! { harness() }
