//! Whether the store is still the one that was opened. Each partition holds the store's birth id.
//! If it is missing, so is everything else: the server was flushed, or restarted without its data.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{error, info};

use super::error::unreadable;
use super::keys::{Keys, TAGS};
use crate::redis_client::RedisClient;
use crate::store::Error;

/// So many partitions are looked at with each renewal of the lease, besides that of the registry.
const CHECKED_PARTITIONS: usize = 32;

const FIX: &str = "restore its data, or start all nodes anew to go on with what is there";

/// See the module.
#[derive(Debug)]
pub(super) struct Birth {
    id: String,
    /// Where to look next.
    next: AtomicUsize,
    /// Where this process has seen it.
    seen: Vec<AtomicBool>,
    /// Where it is not any more.
    lost: Mutex<BTreeSet<usize>>,
    /// Not even in the registry.
    is_gone: AtomicBool,
}

impl Birth {
    /// Of the store that is there now; of a new one, if nothing is.
    pub async fn of(link: &RedisClient, keys: &Keys, random: u64) -> Result<Self, Error> {
        let (mut set, mut get) = (redis::cmd("SETNX"), redis::cmd("GET"));
        set.arg(key(keys.registry())).arg(format!("{random:016x}"));
        let is_new: bool = redis::from_redis_value(link.ask(set).await?)
            .map_err(|_| unreadable("the answer to a birth id"))?;
        get.arg(key(keys.registry()));
        let id = redis::from_redis_value(link.ask(get).await?)
            .map_err(|_| unreadable("the birth id of the store"))?;
        let seen = (0..usize::from(TAGS)).map(|_| AtomicBool::new(false)).collect();
        let birth = Self {
            id,
            next: AtomicUsize::new(0),
            seen,
            lost: Mutex::default(),
            is_gone: AtomicBool::new(false),
        };
        let missing =
            birth.look_at(link, keys, (0..keys.all().len()).collect()).await.unwrap_or_default();
        if !is_new && missing > 0 {
            error!(
                partitions = missing,
                "parts of the store in Redis are empty although they were written before; their data is lost"
            );
        }
        Ok(birth)
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it is in the registry, as a renewal has seen. `true`: nothing is left of the store.
    pub fn set_gone(&self, is_gone: bool) {
        if self.is_gone.swap(is_gone, Ordering::Relaxed) == is_gone {
            return;
        }
        if is_gone {
            error!("the store in Redis was emptied or replaced; this node stops working: {FIX}");
        } else {
            info!("the store in Redis is available again");
        }
    }

    /// Checks some partitions. The state of one that cannot be read is unchanged.
    pub async fn look(&self, link: &RedisClient, keys: &Keys) {
        let first = self.next.fetch_add(CHECKED_PARTITIONS, Ordering::Relaxed);
        let tags = (first..first + CHECKED_PARTITIONS).map(|tag| tag % keys.all().len()).collect();
        // It is looked for again soon.
        let _ = self.look_at(link, keys, tags).await;
    }

    /// How many did not have it, and have got it now.
    async fn look_at(
        &self,
        link: &RedisClient,
        keys: &Keys,
        tags: Vec<usize>,
    ) -> Result<usize, Error> {
        let get = |tag: &usize| {
            let mut get = redis::cmd("GET");
            get.arg(key(&keys.all()[*tag]));
            get
        };
        let found = link.ask_all(tags.iter().map(get).collect()).await?;
        let mut missing = Vec::new();
        for (tag, found) in tags.into_iter().zip(found) {
            // A value that is not a string is not the birth id either.
            let found: Option<String> = redis::from_redis_value(found).unwrap_or_default();
            let is_there = found.as_deref() == Some(&self.id);
            if is_there {
                self.seen[tag].store(true, Ordering::Relaxed);
                self.lost().remove(&tag);
            } else if self.seen[tag].load(Ordering::Relaxed) {
                if self.lost().insert(tag) {
                    let place = &keys.all()[tag];
                    error!(
                        "partition `{place}` of the store in Redis was emptied or replaced: {FIX}"
                    );
                }
            } else {
                missing.push(tag);
            }
        }
        let set = |tag: &usize| {
            let mut set = redis::cmd("SET");
            set.arg(key(&keys.all()[*tag])).arg(&self.id);
            set
        };
        link.ask_all(missing.iter().map(set).collect()).await?;
        missing.iter().for_each(|tag| self.seen[*tag].store(true, Ordering::Relaxed));
        Ok(missing.len())
    }

    pub fn problem(&self) -> Option<String> {
        if self.is_gone.load(Ordering::Relaxed) {
            return Some(format!("Redis was emptied, or is another store now: {FIX}"));
        }
        let lost = self.lost();
        let first = lost.first()?;
        Some(format!(
            "{} of {TAGS} partitions in Redis were emptied, `{{{first}}}` the first of them: {FIX}",
            lost.len()
        ))
    }

    fn lost(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        // Nothing panics under the lock.
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(base: &str) -> String {
    format!("{base}:birth")
}
