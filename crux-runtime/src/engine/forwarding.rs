//! Instances that another node works on. What is asked of an instance is asked here first; if it is
//! another node's, or of a definition that only another node has, that node is asked, and its
//! answer is the answer. Letters get lost: whoever waits for too long asks again, and everything
//! that can be asked may be asked twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Core;
use crate::engine::active_instance::{Delivery, Input};
use crate::engine::api::{Command, Completed, Completion, Error, Progress, Undelivered};
use crate::engine::message::Message;
use crate::id::InstanceId;
use crate::store;
use crate::store::NodeNumber;
use crate::store::peers::{Heard, Peers};
use crate::supervise;

/// How long another node may take for an answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How long it is tried to find the node that works on an instance: one that has just died is known
/// to be gone only later.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before it is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// How soon rows of other nodes are heard of after somebody begins to follow; short ones are over
/// by then.
const FOLLOW_AFTER: Duration = Duration::from_millis(50);

/// What can be asked of an instance, wherever it is.
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
    Completed(Completed),
    Done,
    /// Whether an event was taken.
    Taken(bool),
    Undelivered(Undelivered),
}

/// Between nodes.
#[derive(Debug, Serialize, Deserialize)]
enum Letter {
    Ask { from: NodeNumber, number: u64, instance: InstanceId, request: Request },
    Answer { number: u64, answer: Result<Response, Error> },
}

/// The other nodes, and what was asked of them.
pub(super) struct Elsewhere {
    pub(super) peers: Arc<dyn Peers>,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<Response, Error>>>,
}

impl Elsewhere {
    pub(super) fn new(peers: Arc<dyn Peers>) -> Self {
        Self { peers, asked: Mutex::default() }
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
            let mut asked = self.asked();
            asked.last += 1;
            let number = asked.last;
            asked.waiting.insert(number, answers);
            number
        };
        let answer = async {
            let letter = Letter::Ask {
                from: self.peers.number(),
                number,
                instance,
                request: request.clone(),
            };
            if !self.write(node, &letter).await {
                return None;
            }
            tokio::time::timeout(ANSWER, answer).await.ok()?.ok()
        }
        .await;
        self.asked().waiting.remove(&number);
        answer
    }

    /// Whether somebody has it.
    async fn write(&self, node: NodeNumber, letter: &Letter) -> bool {
        let text = match serde_json::to_vec(letter) {
            Ok(text) => text,
            Err(error) => {
                warn!(%error, "a letter to another node cannot be written");
                return false;
            }
        };
        match self.peers.send(node, text).await {
            Ok(heard) => heard,
            Err(error) => {
                debug!(node, %error, "a letter to another node was not sent");
                false
            }
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        // Nothing panics under the lock.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the others know what this node depends on, and what is wrong with it.
    pub(super) fn say_how_it_is(&self, bus: Result<(), String>) {
        let me = self.peers.number();
        let Some(mut about) =
            self.peers.nodes().into_iter().find(|node| node.number == me).map(|node| node.about)
        else {
            return;
        };
        about.dependencies.insert("bus".to_owned(), bus.err().unwrap_or_default());
        self.peers.say(about);
    }

    /// Whether a node that lives has the definition.
    pub(super) fn hosts(&self, definition: &str) -> bool {
        self.peers.nodes().iter().any(|node| node.about.hosts(definition))
    }

    /// A node that has the definition, other than this one.
    fn host(&self, definition: &str) -> Option<NodeNumber> {
        let me = self.peers.number();
        self.peers
            .nodes()
            .into_iter()
            .find(|node| node.number != me && node.about.hosts(definition))
            .map(|node| node.number)
    }
}

impl Core {
    /// Asks the instance, wherever it is.
    pub(crate) async fn request(
        &self,
        instance: InstanceId,
        request: Request,
    ) -> Result<Response, Error> {
        let Some(elsewhere) = &self.elsewhere else {
            return self.ask_here(instance, request).await;
        };
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask_fresh(instance, &request).await;
            let node = match &answer {
                Err(Error::Elsewhere { node }) => Some(*node),
                Err(Error::NoDefinition { definition, .. }) => match elsewhere.host(definition) {
                    Some(node) => Some(node),
                    None => return answer,
                },
                Err(Error::Moved) => None,
                _ => return answer,
            };
            if let Some(node) = node {
                match elsewhere.ask(node, instance, &request).await {
                    // It has passed on meanwhile.
                    None | Some(Err(Error::Elsewhere { .. } | Error::Moved)) => {}
                    Some(answer) => return answer,
                }
            }
            if Instant::now() >= until {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks it at this node. What is refused because of what this node remembers is asked again of
    /// what is stored.
    async fn ask_fresh(&self, instance: InstanceId, request: &Request) -> Result<Response, Error> {
        let answer = self.ask_here(instance, request.clone()).await;
        let may_be_stale = match &answer {
            Err(
                Error::NotOpen
                | Error::NotNow(_)
                | Error::UnknownStep(_)
                | Error::Invalid(_)
                | Error::Moved,
            ) => true,
            Ok(Response::Taken(false) | Response::Completed(Completed::Superseded)) => true,
            Ok(_) | Err(_) => false,
        };
        if may_be_stale && self.forget_idle(instance).await {
            return self.ask_here(instance, request.clone()).await;
        }
        answer
    }

    /// What is in memory of the instance is not what the next one who asks is told, unless work is
    /// under way. Whether that may be something else.
    async fn forget_idle(&self, instance: InstanceId) -> bool {
        let (reply, forgotten) = oneshot::channel();
        self.inbox(instance).send(Message::ForgetIdle { id: instance, reply }).await.is_ok()
            && forgotten.await.unwrap_or(false)
    }

    async fn ask_here(&self, instance: InstanceId, request: Request) -> Result<Response, Error> {
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

    /// What does not reach whom it is for is known where the instance is carried.
    pub(super) async fn undelivered(&self, instance: InstanceId) -> Undelivered {
        let of = |response| match response {
            Some(Ok(Response::Undelivered(undelivered))) => undelivered,
            _ => Undelivered::default(),
        };
        let here = of(Some(self.ask_here(instance, Request::Undelivered).await));
        let Some(elsewhere) = self.elsewhere.as_ref().filter(|_| here == Undelivered::default())
        else {
            return here;
        };
        match self.store.record(instance).await {
            Ok(Some(store::Record { carried_by: Some(node), .. }))
                if node != elsewhere.peers.number() =>
            {
                of(elsewhere.ask(node, instance, &Request::Undelivered).await)
            }
            // Whoever shows the instance reads it too, and says what is wrong with the store.
            _ => here,
        }
    }
}

/// Hears what other nodes say, and lets them say it of what is followed here.
pub(super) fn begin(core: &Arc<Core>) {
    let Some(elsewhere) = &core.elsewhere else { return };
    if let Some(heard) = elsewhere.peers.hear() {
        supervise::spawn("hearing other nodes", hear(core.clone(), heard));
    }
    supervise::spawn("following at other nodes", follow(core.clone(), elsewhere.peers.clone()));
}

async fn hear(core: Arc<Core>, mut heard: mpsc::Receiver<Heard>) {
    while let Some(heard) = heard.recv().await {
        match heard {
            Heard::Row(instance, seq) => core.hub.grown(instance, seq),
            Heard::Gap => core.hub.may_have_missed(),
            Heard::Message(text) => match serde_json::from_slice(&text) {
                Ok(letter) => open_letter(&core, letter),
                // Of a node of another version: its sender finds out by the time-out.
                Err(error) => warn!(%error, "a letter of another node cannot be read"),
            },
        }
    }
}

fn open_letter(core: &Arc<Core>, letter: Letter) {
    let Some(elsewhere) = &core.elsewhere else { return };
    match letter {
        Letter::Answer { number, answer } => {
            if let Some(waiting) = elsewhere.asked().waiting.remove(&number) {
                // Whoever asked has given up.
                let _ = waiting.send(answer);
            }
        }
        Letter::Ask { from, number, instance, request } => {
            let core = core.clone();
            supervise::spawn("answering another node", async move {
                let answer = core.ask_fresh(instance, &request).await;
                if let Some(elsewhere) = &core.elsewhere {
                    // If it does not arrive, the other asks again.
                    elsewhere.write(from, &Letter::Answer { number, answer }).await;
                }
            });
        }
    }
}

async fn follow(core: Arc<Core>, peers: Arc<dyn Peers>) {
    let mut followed = BTreeSet::new();
    while !core.is_closing() {
        core.hub.changed().await;
        tokio::time::sleep(FOLLOW_AFTER).await;
        let now: BTreeSet<InstanceId> = core.hub.followed().into_iter().collect();
        if now != followed {
            followed.clone_from(&now);
            peers.follow(now);
        }
    }
}
