//! Definitions that unfinished instances need and this binary does not have. Such instances are
//! kept unchanged and do not continue until a binary with their definition runs; the log, `/health`
//! and a metric report them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::Core;
use crate::app::App;
use crate::engine::api::Error;
use crate::machine::Started;
use crate::store::InUse;

/// Between two looks, while there is a reason for one.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// After the store could not be read.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The missing definitions at the last check.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    known: Mutex<Vec<InUse>>,
    /// Something has turned out to be missing since.
    is_old: AtomicBool,
}

impl Missing {
    /// An instance has turned out to be without its definition.
    pub(crate) fn look(&self) {
        self.is_old.store(true, Ordering::Relaxed);
    }

    pub(super) fn list(&self) -> Vec<InUse> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, now: Vec<InUse>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// Looks at the start, and again as long as something is missing.
pub(super) async fn watch(core: Arc<Core>) {
    while !core.is_closing() {
        match core.store.in_use().await {
            Ok(all) => {
                core.missing.is_old.store(false, Ordering::Relaxed);
                let now: Vec<InUse> =
                    all.into_iter().filter(|in_use| !core.is_hosted(&in_use.definition)).collect();
                tell(&core.app, &core.missing.list(), &now);
                core.missing.set(now);
            }
            Err(error) => {
                tracing::debug!(%error, "the definitions in use cannot be read; trying again");
                core.missing.look();
                tokio::time::sleep(RETRY_INTERVAL).await;
                continue;
            }
        }
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let is_due =
                core.missing.is_old.load(Ordering::Relaxed) || !core.missing.list().is_empty();
            if is_due || core.is_closing() {
                break;
            }
        }
    }
}

/// Logs what is new, once.
fn tell(app: &App, before: &[InUse], now: &[InUse]) {
    let is_same = |one: &InUse, other: &InUse| one.definition == other.definition;
    for InUse { workflow, version, definition, instances } in
        now.iter().filter(|one| !before.iter().any(|other| is_same(one, other)))
    {
        let why = why(app, workflow, *version, definition);
        warn!(
            workflow,
            version,
            definition,
            instances,
            "instances cannot continue: {why}; deploy a binary that has it"
        );
    }
    for InUse { workflow, version, definition, .. } in
        before.iter().filter(|one| !now.iter().any(|other| is_same(one, other)))
    {
        info!(workflow, version, definition, "no instance is missing this definition any more");
    }
}

/// For people: which definition is missing, and what this binary has instead.
fn why(app: &App, workflow: &str, version: u32, definition: &str) -> String {
    let missing = format!(
        "definition {} of `{workflow}` version {version} is not in this binary",
        short(definition)
    );
    let versions = || {
        app.workflows
            .iter()
            .map(|workflow| workflow.definition)
            .filter(|own| own.workflow == workflow)
    };
    if let Some(own) = versions().find(|own| own.version == version) {
        return format!(
            "{missing}, whose version {version} is another one ({}): the file was changed and kept its version",
            short(own.hash)
        );
    }
    let mut numbers: Vec<u32> = versions().map(|own| own.version).collect();
    numbers.sort_unstable();
    match numbers.as_slice() {
        [] => format!("{missing}, which has no workflow of that name"),
        numbers => {
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            format!("{missing}, which has version {}", numbers.join(", "))
        }
    }
}

fn short(definition: &str) -> &str {
    definition.get(..12).unwrap_or(definition)
}

impl Core {
    /// Whether this node or another that lives has the definition.
    fn is_hosted(&self, definition: &str) -> bool {
        self.app.by_hash(definition).is_some()
            || self.peer_router.as_ref().is_some_and(|peer_router| peer_router.hosts(definition))
    }

    /// Why an instance that needs that definition is blocked; `None`: it is not.
    pub(super) fn blocked_reason(&self, started: &Started) -> Option<String> {
        let Started { workflow, version, definition, .. } = started;
        (!self.is_hosted(definition)).then(|| why(&self.app, workflow, *version, definition))
    }

    pub(super) fn no_definition(&self, error: &Error) {
        if matches!(error, Error::DefinitionMissing { .. }) {
            self.missing.look();
        }
    }
}
