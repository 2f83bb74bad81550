//! What only the SQLite store has to do.

mod crash;
mod files;
mod full;

use std::path::Path;
use std::sync::Arc;

use crux_runtime::store::Store;
use crux_runtime::store::sqlite::{Options, Sqlite};

use crate::bed::Bed;

/// The folder lives as long as the bed.
fn bed() -> Bed {
    let folder = tempfile::tempdir().unwrap();
    Bed { open: Box::new(move || -> Arc<dyn Store> { Arc::new(open(folder.path())) }) }
}

fn open(folder: &Path) -> Sqlite {
    Sqlite::open(Options::new(folder.join("crux.db"))).unwrap()
}

crate::suite! { bed() }
