//! Forwards requests to the owner node of an instance. A request is tried locally first; if another
//! node owns the instance, or only another node has its definition, that node is asked, and its
//! response returned. For example: node 2 gets a completion, and the store says that node 1 owns
//! the instance; node 2 sends it over the store's channel and waits up to `RESPONSE_TIMEOUT`.
//! Messages may be lost: the sender asks again, so every request can be repeated.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Core;
use crate::engine::active_instance::{Delivery, Input};
use crate::engine::api::{Command, Completion, CompletionOutcome, Error, Progress, Undelivered};
use crate::engine::message::Message;
use crate::id::InstanceId;
use crate::store;
use crate::store::NodeNumber;
use crate::store::peers::{PeerEvent, Peers};
use crate::supervise;

/// How long another node may take to respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the owner node is searched: a node that just died is known to be dead only later.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between tries.
const FORWARD_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Delay before rows of other nodes are received for a new follower; short ones end before.
const FOLLOW_DELAY: Duration = Duration::from_millis(50);

/// A request to an instance on any node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    Complete(Completion),
    Progress(Progress),
    Command(Command),
    Deliver(Delivery),
    Undelivered,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Response {
    Completed(CompletionOutcome),
    Done,
    /// Whether an event was taken.
    Taken(bool),
    Undelivered(Undelivered),
}

/// Between nodes.
#[derive(Debug, Serialize, Deserialize)]
enum PeerMessage {
    Request { from: NodeNumber, number: u64, instance: InstanceId, request: Request },
    Response { number: u64, answer: Result<Response, Error> },
}

/// The other nodes, and the requests sent to them.
pub(super) struct PeerRouter {
    pub(super) peers: Arc<dyn Peers>,
    pending: Mutex<PendingRequests>,
}

#[derive(Default)]
struct PendingRequests {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<Response, Error>>>,
}

impl PeerRouter {
    pub(super) fn new(peers: Arc<dyn Peers>) -> Self {
        Self { peers, pending: Mutex::default() }
    }

    /// `None`: no answer.
    async fn ask(
        &self,
        node: NodeNumber,
        instance: InstanceId,
        request: &Request,
    ) -> Option<Result<Response, Error>> {
        let (answers, answer) = oneshot::channel();
        let number = {
            let mut pending = self.pending();
            pending.last += 1;
            let number = pending.last;
            pending.waiting.insert(number, answers);
            number
        };
        let answer = async {
            let message = PeerMessage::Request {
                from: self.peers.number(),
                number,
                instance,
                request: request.clone(),
            };
            if !self.send(node, &message).await {
                return None;
            }
            tokio::time::timeout(RESPONSE_TIMEOUT, answer).await.ok()?.ok()
        }
        .await;
        self.pending().waiting.remove(&number);
        answer
    }

    /// Whether the node received it.
    async fn send(&self, node: NodeNumber, message: &PeerMessage) -> bool {
        let text = match serde_json::to_vec(message) {
            Ok(text) => text,
            Err(error) => {
                warn!(%error, "cannot encode a message to another node");
                return false;
            }
        };
        match self.peers.send(node, text).await {
            Ok(received) => received,
            Err(error) => {
                debug!(node, %error, "a message to another node was not sent");
                false
            }
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, PendingRequests> {
        // Nothing panics under the lock.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes this node's dependencies and their problems to the other nodes.
    pub(super) fn publish_node_status(&self, bus: Result<(), String>) {
        let me = self.peers.number();
        let Some(mut info) =
            self.peers.nodes().into_iter().find(|node| node.number == me).map(|node| node.info)
        else {
            return;
        };
        info.dependencies.insert("bus".to_owned(), bus.err().unwrap_or_default());
        self.peers.publish_info(info);
    }

    /// Whether a node that lives has the definition.
    pub(super) fn hosts(&self, definition: &str) -> bool {
        self.peers.nodes().iter().any(|node| node.info.hosts(definition))
    }

    /// A node that has the definition, other than this one.
    fn host(&self, definition: &str) -> Option<NodeNumber> {
        let me = self.peers.number();
        self.peers
            .nodes()
            .into_iter()
            .find(|node| node.number != me && node.info.hosts(definition))
            .map(|node| node.number)
    }
}

impl Core {
    /// Sends a request to the instance on any node.
    pub(crate) async fn request(
        &self,
        instance: InstanceId,
        request: Request,
    ) -> Result<Response, Error> {
        let Some(peer_router) = &self.peer_router else {
            return self.request_local(instance, request).await;
        };
        let until = Instant::now() + FORWARD_TIMEOUT;
        loop {
            let answer = self.request_reloading_if_stale(instance, &request).await;
            let node = match &answer {
                Err(Error::OwnerUnreachable { node }) => Some(*node),
                Err(Error::DefinitionMissing { definition, .. }) => {
                    match peer_router.host(definition) {
                        Some(node) => Some(node),
                        None => return answer,
                    }
                }
                Err(Error::ConcurrentModification) => None,
                _ => return answer,
            };
            if let Some(node) = node {
                match peer_router.ask(node, instance, &request).await {
                    // It has passed on meanwhile.
                    None
                    | Some(Err(Error::OwnerUnreachable { .. } | Error::ConcurrentModification)) => {
                    }
                    Some(answer) => return answer,
                }
            }
            if Instant::now() >= until {
                return answer;
            }
            tokio::time::sleep(FORWARD_RETRY_DELAY).await;
        }
    }

    /// Sends the request to this node's shard. If it is rejected, the instance is reloaded from the
    /// store and asked again, because its state here may be stale.
    async fn request_reloading_if_stale(
        &self,
        instance: InstanceId,
        request: &Request,
    ) -> Result<Response, Error> {
        let answer = self.request_local(instance, request.clone()).await;
        let may_be_stale = match &answer {
            Err(
                Error::NotOpen
                | Error::InvalidState(_)
                | Error::UnknownStep(_)
                | Error::Invalid(_)
                | Error::ConcurrentModification,
            ) => true,
            Ok(Response::Taken(false) | Response::Completed(CompletionOutcome::Superseded)) => true,
            Ok(_) | Err(_) => false,
        };
        if may_be_stale && self.unload_if_idle(instance).await {
            return self.request_local(instance, request.clone()).await;
        }
        answer
    }

    /// Unloads an idle instance so that the next request reads it from the store. Whether that may
    /// change the result.
    async fn unload_if_idle(&self, instance: InstanceId) -> bool {
        let (reply, forgotten) = oneshot::channel();
        self.inbox(instance).send(Message::UnloadIfIdle { id: instance, reply }).await.is_ok()
            && forgotten.await.unwrap_or(false)
    }

    async fn request_local(
        &self,
        instance: InstanceId,
        request: Request,
    ) -> Result<Response, Error> {
        match request {
            Request::Complete(completion) => {
                let (reply, answer) = oneshot::channel();
                self.ask(instance, Input::Complete { completion, reply }, answer)
                    .await
                    .map(Response::Completed)
            }
            Request::Progress(progress) => {
                let (reply, answer) = oneshot::channel();
                self.ask(instance, Input::Progress { progress, reply }, answer)
                    .await
                    .map(|()| Response::Done)
            }
            Request::Command(command) => {
                let (reply, answer) = oneshot::channel();
                self.ask(instance, Input::Command { command, reply }, answer)
                    .await
                    .map(|()| Response::Done)
            }
            Request::Deliver(delivery) => {
                let (reply, answer) = oneshot::channel();
                self.ask(instance, Input::Deliver { delivery, reply }, answer)
                    .await
                    .map(Response::Taken)
            }
            Request::Undelivered => {
                let (reply, answer) = oneshot::channel();
                let sent = self
                    .inbox(instance)
                    .send(Message::For(instance, Input::Undelivered { reply }))
                    .await;
                sent.map_err(|_| Error::ShuttingDown)?;
                Ok(Response::Undelivered(answer.await.unwrap_or_default()))
            }
        }
    }

    /// Undelivered tasks and messages are known only to the owner node.
    pub(super) async fn undelivered(&self, instance: InstanceId) -> Undelivered {
        let of = |response| match response {
            Some(Ok(Response::Undelivered(undelivered))) => undelivered,
            _ => Undelivered::default(),
        };
        let here = of(Some(self.request_local(instance, Request::Undelivered).await));
        let Some(peer_router) =
            self.peer_router.as_ref().filter(|_| here == Undelivered::default())
        else {
            return here;
        };
        match self.store.record(instance).await {
            Ok(Some(store::Record { owner_node: Some(node), .. }))
                if node != peer_router.peers.number() =>
            {
                of(peer_router.ask(node, instance, &Request::Undelivered).await)
            }
            // The caller reads the store too, and reports its error.
            _ => here,
        }
    }
}

/// Receives from other nodes, and subscribes to rows of the instances followed here.
pub(super) fn begin(core: &Arc<Core>) {
    let Some(peer_router) = &core.peer_router else { return };
    if let Some(events) = peer_router.peers.events() {
        core.keep_running("receiving from other nodes", receive(core.clone(), events));
    }
    core.keep_running("following at other nodes", follow(core.clone(), peer_router.peers.clone()));
}

async fn receive(core: Arc<Core>, mut events: mpsc::Receiver<PeerEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            PeerEvent::Row(instance, seq) => core.hub.grown(instance, seq),
            PeerEvent::Gap => core.hub.may_have_missed(),
            PeerEvent::Message(text) => match serde_json::from_slice(&text) {
                Ok(message) => handle_peer_message(&core, message),
                // From a node of another version: the sender runs into its timeout.
                Err(error) => warn!(%error, "cannot decode a message from another node"),
            },
        }
    }
}

fn handle_peer_message(core: &Arc<Core>, message: PeerMessage) {
    let Some(peer_router) = &core.peer_router else { return };
    match message {
        PeerMessage::Response { number, answer } => {
            if let Some(waiting) = peer_router.pending().waiting.remove(&number) {
                // The sender may have given up; ignore.
                let _ = waiting.send(answer);
            }
        }
        PeerMessage::Request { from, number, instance, request } => {
            let core = core.clone();
            supervise::spawn("answering another node", async move {
                let answer = core.request_reloading_if_stale(instance, &request).await;
                if let Some(peer_router) = &core.peer_router {
                    // If it is lost, the sender asks again.
                    peer_router.send(from, &PeerMessage::Response { number, answer }).await;
                }
            });
        }
    }
}

async fn follow(core: Arc<Core>, peers: Arc<dyn Peers>) {
    let mut followed = BTreeSet::new();
    while !core.is_closing() {
        core.hub.changed().await;
        tokio::time::sleep(FOLLOW_DELAY).await;
        let now: BTreeSet<InstanceId> = core.hub.followed().into_iter().collect();
        if now != followed {
            followed.clone_from(&now);
            peers.follow(now);
        }
    }
}
