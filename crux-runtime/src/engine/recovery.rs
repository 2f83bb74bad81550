//! What goes on in the background: taking up what an earlier process left, waking what time has come for, removing what is over, and a
//! look at the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Core;
use super::entry::Input;
use super::shard::{HORIZON_MS, Message};
use crate::id::InstanceId;
use crate::machine::Time;

/// Instances that are loaded side by side after a restart.
const AT_ONCE: usize = 256;
const PAGE: usize = 1000;

pub(super) fn begin(core: &Arc<Core>) {
    tokio::spawn(take_up(core.clone()));
    tokio::spawn(wake(core.clone()));
    tokio::spawn(keep_house(core.clone()));
}

/// Loads every unsettled instance, which repeats what is not done of its effects; then delivers events that had been taken.
async fn take_up(core: Arc<Core>) {
    let mut after = None;
    let mut loading = FuturesUnordered::new();
    let mut found = 0_usize;
    loop {
        let page = match core.store.unsettled(after, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                warn!(%error, "what an earlier process left cannot be read; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let Some(last) = page.last() else { break };
        after = Some(*last);
        for id in page {
            found += 1;
            loading.push(look_at(core.clone(), id));
            if loading.len() >= AT_ONCE {
                loading.next().await;
            }
        }
    }
    while loading.next().await.is_some() {}
    if found > 0 {
        info!(instances = found, "took up what an earlier process left");
    }
    core.router.take_up(&core).await;
    core.recovered.store(true, Ordering::Relaxed);
}

async fn look_at(core: Arc<Core>, id: InstanceId) {
    let (done, looked) = oneshot::channel();
    if core.inbox(id).send(Message::For(id, Input::Wake { done: Some(done) })).await.is_ok() {
        // An instance that cannot be loaded is reported where that is found out.
        let _ = looked.await;
    }
}

/// Tells shards of instances that are due soon.
async fn wake(core: Arc<Core>) {
    let pause = Duration::from_millis(HORIZON_MS / 3);
    loop {
        let until = core.clock.now().plus_ms(HORIZON_MS);
        let mut after: Option<(Time, InstanceId)> = None;
        loop {
            let page = match core.store.due(after, until, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    warn!(%error, "sleeping instances cannot be read; trying again");
                    break;
                }
            };
            let full = page.len() == PAGE;
            after = page.last().copied();
            for (at, id) in page {
                if core.inbox(id).send(Message::Timer(id, at)).await.is_err() {
                    return;
                }
            }
            if !full {
                break;
            }
        }
        tokio::time::sleep(pause).await;
        if core.is_closing() {
            return;
        }
    }
}

async fn keep_house(core: Arc<Core>) {
    const EXPIRE: usize = 1000;
    let mut round = 0_u64;
    loop {
        let low = core.store.free_bytes().is_some_and(|free| free < core.options.min_free_bytes);
        if core.disk_low.swap(low, Ordering::Relaxed) != low {
            if low {
                warn!("the disk is nearly full: starts are refused, what runs goes on as long as it can");
            } else {
                info!("there is room on the disk again: starts are taken");
            }
        }
        let waiting = core.unsubscribed.lock().map(|mut waiting| std::mem::take(&mut *waiting)).unwrap_or_default();
        if !waiting.is_empty()
            && let Err(error) = core.store.unsubscribe(waiting).await
        {
            // A subscription that stays behind costs a look when such an event comes, and is removed then.
            warn!(%error, "subscriptions could not be removed");
        }
        if round.is_multiple_of(20) {
            loop {
                match core.store.expire(core.clock.now(), EXPIRE).await {
                    Ok(EXPIRE..) => {}
                    Ok(_) => break,
                    Err(error) => {
                        warn!(%error, "what is over could not be removed");
                        break;
                    }
                }
            }
        }
        round += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
        if core.is_closing() {
            return;
        }
    }
}
