//! What goes on in the background: taking up what an earlier process left, waking what time has
//! come for, removing what is over, and a look at the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Core;
use super::message::Message;
use crate::backoff;
use crate::engine::active_instance::Input;
use crate::id::InstanceId;
use crate::machine::Time;
use crate::store::NodeNumber;
use crate::store::peers::Peers;
use crate::supervise;

/// Instances that are loaded side by side after a restart.
const AT_ONCE: usize = 256;
const PAGE: usize = 1000;
/// A wake-up that its node has missed by that much is anybody's.
const LATE_MS: u64 = 3_000;

pub(super) fn begin(core: &Arc<Core>) {
    supervise::spawn("taking up what is unsettled", take_up(core.clone()));
    supervise::spawn("waking instances", wake(core.clone()));
    supervise::spawn("housekeeping", keep_house(core.clone()));
    supervise::spawn(
        "looking for missing definitions",
        crate::engine::missing_definitions::watch(core.clone()),
    );
}

/// Takes up what an earlier process left; where nodes share the store, also what a node leaves that
/// goes, whenever one does. Taking up waits for a store that is away, and a lease may be lost
/// meanwhile: then shards have to hear of it at once, and it begins again.
async fn take_up(core: Arc<Core>) {
    let mut membership = core.store.membership();
    let mut known = *membership.borrow_and_update();
    // A store of one process has nobody who would tell.
    let mut may_change = membership.has_changed().is_ok();
    let mut is_owed = true;
    loop {
        tokio::select! {
            biased;
            changed = membership.changed(), if may_change => may_change = changed.is_ok(),
            () = take_up_now(&core), if is_owed && known.holds => {
                is_owed = false;
                core.recovered.store(true, Ordering::Relaxed);
            }
            else => return,
        }
        if core.is_closing() {
            return;
        }
        let now = *membership.borrow_and_update();
        let was_interrupted = now.number != known.number || now.holds != known.holds;
        if was_interrupted {
            hold(&core, now.holds).await;
        }
        is_owed |= was_interrupted || now.departures != known.departures;
        known = now;
    }
}

/// Shards forget what they have: while this node was not known to live, others may have gone on
/// with it.
async fn hold(core: &Core, holds: bool) {
    for inbox in &core.inboxes {
        // A shard is gone only when the process ends.
        let _ = inbox.send(Message::Hold(holds)).await;
    }
}

/// Has events delivered that had been taken, and loads every unsettled instance that no other node
/// carries, which repeats what is not done of its effects.
async fn take_up_now(core: &Arc<Core>) {
    core.router.take_up(core).await;
    let mut after = None;
    let mut backoff = core.backoff(backoff::STORE);
    let mut loading = FuturesUnordered::new();
    let (mut taken, mut left) = (0_usize, 0_usize);
    let mut count = |is_taken: bool| if is_taken { taken += 1 } else { left += 1 };
    loop {
        let claimed = async {
            let page = core.store.unsettled(after, PAGE).await?;
            let Some(last) = page.last().copied() else { return Ok(None) };
            Ok::<_, crate::store::Error>(Some((last, core.store.claim(page).await?)))
        };
        let page = match claimed.await {
            Ok(Some((last, page))) => {
                after = Some(last);
                backoff.reset();
                page
            }
            Ok(None) => break,
            Err(error) => {
                if core.is_closing() {
                    return;
                }
                warn!(%error, "what an earlier process left cannot be read; trying again");
                tokio::time::sleep(backoff.pause()).await;
                continue;
            }
        };
        for id in page {
            loading.push(look_at(core.clone(), id));
            if loading.len() >= AT_ONCE {
                loading.next().await.into_iter().for_each(&mut count);
            }
        }
    }
    while let Some(is_taken) = loading.next().await {
        count(is_taken);
    }
    if taken > 0 {
        info!(instances = taken, "took up what an earlier process left");
    }
    if left > 0 {
        warn!(
            instances = left,
            "some of what an earlier process left cannot go on here, for the reasons that the log names"
        );
    }
}

/// Whether it goes on. One that cannot be loaded is reported where that is found out.
async fn look_at(core: Arc<Core>, id: InstanceId) -> bool {
    let (done, looked) = oneshot::channel();
    core.inbox(id).send(Message::For(id, Input::Wake { done: Some(done) })).await.is_ok()
        && looked.await.unwrap_or(false)
}

/// Tells shards of instances that are due soon. Where nodes share the store each partition is one
/// node's to wake; what is late, because that node has gone, is anybody's: of those who wake the
/// same instance, one gets its row in.
async fn wake(core: Arc<Core>) {
    let pause = Duration::from_millis(core.horizon_ms() / 3);
    loop {
        let now = core.clock.now();
        let until = now.plus_ms(core.horizon_ms());
        let nodes = core.elsewhere.as_ref().map(|elsewhere| Nodes::of(&*elsewhere.peers));
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
                let is_late = at.plus_ms(LATE_MS) < now;
                if !is_late && nodes.as_ref().is_some_and(|nodes| !nodes.wakes(id)) {
                    continue;
                }
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

/// The nodes that share the store, and which one wakes what.
struct Nodes {
    me: NodeNumber,
    all: Vec<NodeNumber>,
}

impl Nodes {
    fn of(peers: &dyn Peers) -> Self {
        Self {
            me: peers.number(),
            all: peers.nodes().into_iter().map(|node| node.number).collect(),
        }
    }

    /// Whether this node is the one whose number and the partition have the greatest hash: nodes
    /// that come and go move only their own part.
    fn wakes(&self, id: InstanceId) -> bool {
        let weight = |node: &NodeNumber| {
            crate::machine::hash(&[&node.to_le_bytes(), &id.partition().to_le_bytes()])
        };
        self.all.iter().max_by_key(|node| weight(node)).is_none_or(|node| *node == self.me)
    }
}

async fn keep_house(core: Arc<Core>) {
    const EXPIRE: usize = 1000;
    let mut round = 0_u64;
    loop {
        // A jump of the system's clock is followed by and by, also where nothing else asks for the
        // time.
        core.clock.now();
        let low = core.store.free_bytes().is_some_and(|free| free < core.options.min_free_bytes);
        if core.disk_low.swap(low, Ordering::Relaxed) != low {
            if low {
                warn!(
                    "the disk is nearly full: starts are refused, what runs goes on as long as it can"
                );
            } else {
                info!("there is room on the disk again: starts are taken");
            }
        }
        if round.is_multiple_of(4)
            && let Some(elsewhere) = &core.elsewhere
        {
            elsewhere.say_how_it_is(core.bus.health());
        }
        let waiting = core
            .unsubscribed
            .lock()
            .map(|mut waiting| std::mem::take(&mut *waiting))
            .unwrap_or_default();
        if !waiting.is_empty()
            && let Err(error) = core.store.unsubscribe(waiting).await
        {
            // A subscription that stays behind costs a look when such an event comes, and is
            // removed then.
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
