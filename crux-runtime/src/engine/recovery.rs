//! Background tasks: recovery of unsettled instances, due timers, and housekeeping.

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

/// Instances that are loaded concurrently after a restart.
const LOADS_MAX: usize = 256;
const PAGE_LEN: usize = 1000;
/// A timer that is overdue by so much may be fired by any node.
const WAKE_OVERDUE_MS: u64 = 3_000;

pub(super) fn begin(core: &Arc<Core>) {
    let recovering = core.clone();
    // A store of a single process needs it once.
    let is_done =
        move || recovering.is_closing() || recovering.has_recovered() && !recovering.nodes_share();
    supervise::keep_running("recovering unsettled instances", is_done, recover(core.clone()));
    core.keep_running("firing due timers", wake_due(core.clone()));
    core.keep_running("housekeeping", housekeeping(core.clone()));
    core.keep_running(
        "looking for missing definitions",
        crate::engine::missing_definitions::watch(core.clone()),
    );
}

/// Recovers unsettled instances; where nodes share the store, also those of a node that departs.
/// Recovery waits for a store that is away, and the lease may be lost meanwhile: then the shards
/// are notified immediately, and recovery starts over.
async fn recover(core: Arc<Core>) {
    let mut membership = core.store.membership();
    let mut known = *membership.borrow_and_update();
    // A store of a single process never changes membership.
    let mut may_change = membership.has_changed().is_ok();
    let mut must_recover = true;
    loop {
        tokio::select! {
            biased;
            changed = membership.changed(), if may_change => may_change = changed.is_ok(),
            () = recover_unsettled(&core), if must_recover && known.holds_lease => {
                must_recover = false;
                core.recovered.store(true, Ordering::Relaxed);
            }
            else => return,
        }
        if core.is_closing() {
            return;
        }
        let now = *membership.borrow_and_update();
        let was_interrupted = now.number != known.number || now.holds_lease != known.holds_lease;
        if was_interrupted {
            lease_changed(&core, now.holds_lease).await;
        }
        must_recover |= was_interrupted || now.departures != known.departures;
        known = now;
    }
}

/// Shards drop their state: while this node had no lease, others may have taken its instances over.
async fn lease_changed(core: &Core, holds_lease: bool) {
    for inbox in &core.inboxes {
        // A shard is dropped only when the process ends.
        let _ = inbox.send(Message::LeaseChanged(holds_lease)).await;
    }
}

/// Delivers stored events, and loads every unsettled instance without another owner node, which
/// repeats its pending effects.
async fn recover_unsettled(core: &Arc<Core>) {
    core.router.recover(core).await;
    let mut after = None;
    let mut backoff = core.backoff(backoff::STORE);
    let mut loading = FuturesUnordered::new();
    let (mut taken, mut left) = (0_usize, 0_usize);
    let mut count = |is_taken: bool| if is_taken { taken += 1 } else { left += 1 };
    loop {
        let claimed = async {
            let page = core.store.unsettled(after, PAGE_LEN).await?;
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
                warn!(%error, "cannot list unsettled instances; retrying");
                tokio::time::sleep(backoff.pause()).await;
                continue;
            }
        };
        for id in page {
            loading.push(load_unsettled(core.clone(), id));
            if loading.len() >= LOADS_MAX {
                loading.next().await.into_iter().for_each(&mut count);
            }
        }
    }
    while let Some(is_taken) = loading.next().await {
        count(is_taken);
    }
    if taken > 0 {
        info!(instances = taken, "recovered unsettled instances");
    }
    if left > 0 {
        warn!(
            instances = left,
            "some unsettled instances cannot continue here; earlier log lines say why"
        );
    }
}

/// Whether it continues. Loading reports its own errors.
async fn load_unsettled(core: Arc<Core>, id: InstanceId) -> bool {
    let (ack, loaded) = oneshot::channel();
    core.inbox(id).send(Message::For(id, Input::Wake { ack: Some(ack) })).await.is_ok()
        && loaded.await.unwrap_or(false)
}

/// Notifies shards of timers that are due soon. Where nodes share the store, each partition has one
/// node that fires its timers; an overdue one may be fired by any node: if several do, one append
/// succeeds.
async fn wake_due(core: Arc<Core>) {
    let pause = Duration::from_millis(core.timer_lookahead_ms() / 3);
    loop {
        let now = core.clock.now();
        let until = now.plus_ms(core.timer_lookahead_ms());
        let nodes = core.peer_router.as_ref().map(|peer_router| Nodes::of(&*peer_router.peers));
        let mut after: Option<(Time, InstanceId)> = None;
        loop {
            let page = match core.store.due(after, until, PAGE_LEN).await {
                Ok(page) => page,
                Err(error) => {
                    warn!(%error, "cannot list due timers; retrying");
                    break;
                }
            };
            let full = page.len() == PAGE_LEN;
            after = page.last().copied();
            for (at, id) in page {
                let is_late = at.plus_ms(WAKE_OVERDUE_MS) < now;
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

async fn housekeeping(core: Arc<Core>) {
    const EXPIRE_LEN: usize = 1000;
    let mut round = 0_u64;
    loop {
        // A jump of the system's clock is followed by and by, also where nothing else asks for the
        // time.
        core.clock.now();
        let low = core.store.free_bytes().is_some_and(|free| free < core.options.min_free_bytes);
        if core.disk_low.swap(low, Ordering::Relaxed) != low {
            if low {
                warn!(
                    "the disk is nearly full: starts are refused, running instances continue while they can"
                );
            } else {
                info!("the disk has free space again: starts are accepted");
            }
        }
        if round.is_multiple_of(4)
            && let Some(peer_router) = &core.peer_router
        {
            peer_router.publish_node_status(core.bus.health());
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
            warn!(%error, "cannot remove event subscriptions");
        }
        if round.is_multiple_of(20) {
            loop {
                match core.store.expire(core.clock.now(), EXPIRE_LEN).await {
                    Ok(EXPIRE_LEN..) => {}
                    Ok(_) => break,
                    Err(error) => {
                        warn!(%error, "cannot delete expired instances");
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
