//! What only the SQLite store has to do.

use std::sync::Arc;

use crux_runtime::store::Store;
use crux_runtime::store::sqlite::{Options, Sqlite};

use crate::bed::Bed;

/// The folder lives as long as the bed.
fn bed() -> Bed {
    let folder = tempfile::tempdir().unwrap();
    Bed { open: Box::new(move || -> Arc<dyn Store> { Arc::new(Sqlite::open(Options::new(folder.path().join("crux.db"))).unwrap()) }) }
}

crate::suite! { bed() }
