//! Messages between nodes on the same Redis: sharded channels, one for each node's inbox and one
//! for each followed instance. What is published without a subscriber is lost; see the contract.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Shared;
use crate::id::InstanceId;
use crate::redis_client::Address;
use crate::store::peers::{NodeInfo, Peer, PeerEvent, Peers};
use crate::store::redis::subscriber::PubSubListener;
use crate::store::{Error, NodeNumber, Pending};
use crate::supervise;

/// Events that were received and not read yet; beyond it followers look into the store.
const EVENTS_LEN_MAX: usize = 4096;

/// See the module.
pub(super) struct RedisPeers {
    shared: Arc<Shared>,
    followed: watch::Sender<BTreeSet<InstanceId>>,
    events: Mutex<Option<mpsc::Receiver<PeerEvent>>>,
    listening: JoinHandle<()>,
}

impl RedisPeers {
    pub fn begin(shared: Arc<Shared>, address: Address) -> Arc<Self> {
        let (followed, follows) = watch::channel(BTreeSet::new());
        let (sender, events) = mpsc::channel(EVENTS_LEN_MAX);
        // Nobody receives, or the store is dropped.
        let (receiver, owner) = (sender.clone(), follows.clone());
        let is_stopping = move || receiver.is_closed() || owner.has_changed().is_err();
        let listener = PubSubListener { shared: shared.clone(), address, events: sender };
        let listening = supervise::keep_running(
            "listening to other nodes",
            is_stopping,
            listener.listen(follows),
        );
        Arc::new(Self { shared, followed, events: Mutex::new(Some(events)), listening })
    }

    pub fn end(&self) {
        self.listening.abort();
    }
}

impl Peers for RedisPeers {
    fn number(&self) -> NodeNumber {
        self.shared.node.membership().borrow().number
    }

    fn nodes(&self) -> Vec<Peer> {
        self.shared.node.nodes()
    }

    fn publish_info(&self, info: NodeInfo) {
        self.shared.node.publish_info(info);
    }

    fn send(&self, to: NodeNumber, message: Vec<u8>) -> Pending<Result<bool, Error>> {
        let shared = self.shared.clone();
        Box::pin(async move { Ok(shared.link.tell(&shared.keys.inbox(to), &message).await? > 0) })
    }

    fn follow(&self, instances: BTreeSet<InstanceId>) {
        self.followed.send_replace(instances);
    }

    fn events(&self) -> Option<mpsc::Receiver<PeerEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
