//! The way to the other nodes on the same Redis: sharded channels, one for each node's letters and
//! one for each instance that somebody follows. What is published while nobody listens is gone; see
//! the contract.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Shared;
use crate::id::InstanceId;
use crate::redis_client::Address;
use crate::store::peers::{About, Heard, Peer, Peers};
use crate::store::redis::subscriber::Ear;
use crate::store::{Error, NodeNumber, Pending};
use crate::supervise;

/// What was heard and not taken yet; beyond it followers look into the store.
const UNREAD: usize = 4096;

/// See the module.
pub(super) struct Neighbours {
    shared: Arc<Shared>,
    followed: watch::Sender<BTreeSet<InstanceId>>,
    heard: Mutex<Option<mpsc::Receiver<Heard>>>,
    listening: JoinHandle<()>,
}

impl Neighbours {
    pub fn begin(shared: Arc<Shared>, address: Address) -> Arc<Self> {
        let (followed, follows) = watch::channel(BTreeSet::new());
        let (hears, heard) = mpsc::channel(UNREAD);
        let ear = Ear { shared: shared.clone(), address, hears };
        let listening = supervise::spawn("listening to other nodes", ear.listen(follows));
        Arc::new(Self { shared, followed, heard: Mutex::new(Some(heard)), listening })
    }

    pub fn end(&self) {
        self.listening.abort();
    }
}

impl Peers for Neighbours {
    fn number(&self) -> NodeNumber {
        self.shared.node.membership().borrow().number
    }

    fn nodes(&self) -> Vec<Peer> {
        self.shared.node.nodes()
    }

    fn say(&self, about: About) {
        self.shared.node.say(about);
    }

    fn send(&self, to: NodeNumber, message: Vec<u8>) -> Pending<Result<bool, Error>> {
        let shared = self.shared.clone();
        Box::pin(async move { Ok(shared.link.tell(&shared.keys.inbox(to), &message).await? > 0) })
    }

    fn follow(&self, instances: BTreeSet<InstanceId>) {
        self.followed.send_replace(instances);
    }

    fn hear(&self) -> Option<mpsc::Receiver<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
