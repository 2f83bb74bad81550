//! What the buses over brokers have in common: the desk at which the engine hands in tasks and
//! messages. A publisher takes them from there, a consumer gives the door what comes in; both
//! belong to one broker and are made by its module.

pub(crate) mod envelope;
pub(crate) mod parking;
pub(crate) mod status;
pub mod task_delivery;
pub mod worker_registry;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info};

use super::{Bus, Door, Figure, Incoming, Message, Published, Taken};
use crate::bus::broker::envelope::{Done, Post};
use crate::bus::broker::status::{Link, State};
use crate::bus::broker::task_delivery::Hands;
use crate::bus::broker::worker_registry::{Roster, Said, Working};
use crate::bus::http::Local;
use crate::bus::routing_keys::{CANCELLED, WORKERS};
use crate::bus::session::stopped;
use crate::executor::queue::Job;
use crate::machine::Runs;
use crate::supervise;
use crate::task::{Report, Task};

/// Before a message is offered again that the door could not take.
pub(in crate::bus) const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// How often a message is offered that waits for the one instance that it is about, before it is
/// put aside for a while: longer than the lease of a node that has died.
const HELD_TRIES: u32 = 12;

/// Takes in what a broker brings; runs until the process stops.
pub(in crate::bus) trait Consume: Send + Sync {
    fn run(&self, door: Arc<dyn Door>) -> BoxFuture<'static, ()>;

    /// Instead of [`Self::run`], at a worker in a process of its own: fetches tasks of step structs
    /// for `hands`.
    fn fetch(&self, _hands: Arc<dyn Hands>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// What it hears of workers; `None`: this broker does not carry tasks of step structs.
    fn roster(&self) -> Option<&Arc<Roster>> {
        None
    }
}

/// The bus over a broker.
pub struct Broker {
    state: Arc<State>,
    post: mpsc::Sender<Post>,
    /// Services that are attached by HTTP get their tasks so.
    pushed: Arc<Local>,
    consumer: Box<dyn Consume>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Of which a broker is made.
pub(in crate::bus) struct Parts {
    pub(in crate::bus) state: Arc<State>,
    /// To the publisher.
    pub(in crate::bus) post: mpsc::Sender<Post>,
    pub(in crate::bus) pushed: Arc<Local>,
    pub(in crate::bus) consumer: Box<dyn Consume>,
    /// Publisher and consumer end when it says so.
    pub(in crate::bus) stop: watch::Sender<bool>,
    pub(in crate::bus) publishing: JoinHandle<()>,
}

impl Broker {
    pub(in crate::bus) fn new(parts: Parts) -> Self {
        let Parts { state, post, pushed, consumer, stop, publishing } = parts;
        Self { state, post, pushed, consumer, stop, tasks: Mutex::new(vec![publishing]) }
    }

    /// Begins to consume.
    pub fn consume(&self, door: Arc<dyn Door>) {
        self.keep(supervise::spawn("consuming from the broker", self.consumer.run(door)));
    }

    /// As [`Bus::publish`], but it is not published again if it is not known what became of it:
    /// then it has failed.
    pub(crate) fn publish_once(&self, message: Message, done: Done) -> Result<(), Message> {
        match self.offer(Post::Once { message, done }) {
            Some(Post::Once { message, .. }) => Err(message),
            _ => Ok(()),
        }
    }

    /// Says something so often, to hear it itself: see [`crate::bus::broker::worker_registry`].
    pub(crate) fn speak(&self, node: String, every: Duration) {
        let Some(roster) = self.consumer.roster() else { return };
        roster.speak(node.clone(), every);
        let said = Said::Node { node };
        let (post, mut stopping) = (self.post.clone(), self.stop.subscribe());
        self.keep(supervise::spawn("saying that this node lives", async move {
            let speaking = async {
                loop {
                    let (told, published) = oneshot::channel();
                    let done: Done = Box::new(move |published| {
                        // Whoever waits for it ends only with the bus.
                        let _ = told.send(published);
                    });
                    let message = to_all(WORKERS, &said);
                    // One that does not get out is followed by the next when it is out: there is
                    // never more than one.
                    if post.send(Post::Message { message, done }).await.is_err()
                        || published.await.is_err()
                    {
                        return;
                    }
                    tokio::time::sleep(every).await;
                }
            };
            tokio::select! {
                () = speaking => {}
                () = stopped(&mut stopping) => {}
            }
        }));
    }

    pub(in crate::bus) fn consumer(&self) -> &dyn Consume {
        &*self.consumer
    }

    /// Waits for its end when the bus is closed.
    pub(in crate::bus) fn keep(&self, task: JoinHandle<()>) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Once the broker has it, services that listen by HTTP get it too; only then it is out.
    fn and_pushed(&self, message: Message, done: Done) -> Done {
        let pushed = self.pushed.clone();
        Box::new(move |published| {
            if published != Published::Done {
                return done(published);
            }
            let (done, of_listeners) = share(done);
            if pushed.publish(message, of_listeners).is_err() {
                done(Published::Failed("the services that listen to it have no room".to_owned()));
            }
        })
    }

    /// Gives it back if there is no room.
    fn offer(&self, post: Post) -> Option<Post> {
        match self.post.try_send(post) {
            Ok(()) => None,
            Err(
                mpsc::error::TrySendError::Full(post) | mpsc::error::TrySendError::Closed(post),
            ) => Some(post),
        }
    }

    fn waiting(&self) -> usize {
        self.post.max_capacity() - self.post.capacity()
    }
}

impl Bus for Broker {
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task> {
        if self.pushed.serves(task.contract.step_type) {
            return self.pushed.dispatch(task, reports);
        }
        if let (Runs::Class(_), Some(roster)) = (task.contract.runs, self.consumer.roster()) {
            roster.sent(task.contract.step_type);
        }
        // While there is no connection as many wait here as find room: they are the first to go
        // out.
        match self.offer(Post::Task { task, reports: reports.clone() }) {
            Some(Post::Task { task, reports }) => match self.state.publishing() {
                Link::Down(why) => Job::new(task, reports).refuse(why),
                Link::Up | Link::Blocked(_) => Err(task),
            },
            _ => Ok(()),
        }
    }

    /// Who listens only the broker knows.
    fn wants(&self, _routing_key: &str) -> bool {
        true
    }

    fn publish(&self, message: Message, done: Done) -> Result<(), Message> {
        let done = if self.pushed.wants(message.routing_key) {
            self.and_pushed(message.clone(), done)
        } else {
            done
        };
        match self.offer(Post::Message { message, done }) {
            Some(Post::Message { message, .. }) => Err(message),
            _ => Ok(()),
        }
    }

    fn health(&self) -> Result<(), String> {
        match (self.state.health(), self.pushed.health()) {
            (Ok(()), health) | (health, Ok(())) => health,
            (Err(broker), Err(services)) => Err(format!("{broker}; {services}")),
        }
    }

    fn delay(&self, step_type: Option<&str>) -> Option<String> {
        if step_type.is_some_and(|step_type| self.pushed.serves(step_type)) {
            self.pushed.delay(step_type)
        } else {
            self.state.delay()
        }
    }

    fn held(&self, routing_key: &str) -> Option<String> {
        self.state.delay().or_else(|| self.pushed.held(routing_key))
    }

    fn back(&self) -> Option<watch::Receiver<u64>> {
        self.pushed.back()
    }

    fn congestion(&self) -> Option<String> {
        let waiting = self.waiting();
        if waiting * 4 < self.post.max_capacity() * 3 {
            return None;
        }
        let broker = self.state.broker;
        match self.state.publishing() {
            // What finds no room is kept by the engine, and how much that may be has a limit of its
            // own.
            Link::Down(_) => None,
            Link::Blocked(why) => Some(format!(
                "{waiting} messages wait to be published: {broker} has blocked publishing: {why}"
            )),
            Link::Up => Some(format!(
                "{waiting} messages wait to be published: {broker} takes them more slowly than they come"
            )),
        }
    }

    fn roster(&self) -> Option<&Roster> {
        self.consumer.roster().map(|roster| &**roster)
    }

    fn cancel(&self, working: Working) {
        if self.consumer.roster().is_none() {
            return;
        }
        if self.publish(to_all(CANCELLED, &working), Box::new(|_| {})).is_err() {
            debug!("no room to say that an attempt is cancelled: it goes on to its end");
        }
    }

    fn parked(&self) -> Option<String> {
        self.state.parking.problem()
    }

    fn figures(&self) -> Vec<Figure> {
        self.state.figures(self.waiting())
    }

    fn drain(&self) {
        self.pushed.drain();
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.stop.send_replace(true);
            let tasks =
                std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            for task in tasks {
                if let Err(error) = task.await {
                    tracing::warn!(%error, "a part of the bus did not end in order");
                }
            }
        })
    }
}

/// What everybody hears who listens now.
pub(crate) fn to_all(routing_key: &'static str, said: &impl Serialize) -> Message {
    // Texts and numbers always encode.
    let body = crate::machine::json::raw(said).unwrap_or_else(|_| RawValue::NULL.to_owned());
    Message {
        routing_key,
        id: String::new(),
        correlation_id: String::new(),
        traceparent: String::new(),
        body,
    }
}

/// Two ends of which the first that is used counts.
fn share(done: Done) -> (Done, Done) {
    let done = Arc::new(Mutex::new(Some(done)));
    let end = |done: Arc<Mutex<Option<Done>>>| -> Done {
        Box::new(move |published| {
            let done = done.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(done) = done {
                done(published);
            }
        })
    };
    (end(done.clone()), end(done))
}

/// What a message comes to.
pub(in crate::bus) enum Fate {
    /// The broker may forget it.
    Done,
    /// To be put aside, with this reason.
    Refused(String),
    /// To be put aside for a while, with this reason, and then to be brought again.
    Parked(String),
    /// The process stops: another one should have it.
    Closing,
}

/// Offers a message to the door until that has decided. One that waits for its instance has so many
/// tries, as long as not too many others wait as well: it must not keep what can be taken from
/// being delivered.
pub(in crate::bus) async fn bring(door: &dyn Door, incoming: &Incoming, state: &State) -> Fate {
    let (mut tries, mut place) = (0, None);
    let Incoming { routing_key, message_id, correlation_id, .. } = incoming;
    info!(target: "crux::messages", routing_key, message_id, correlation_id, "a message is consumed");
    loop {
        match door.take(incoming).await {
            Taken::Done => return Fate::Done,
            Taken::Refused(reason) => return Fate::Refused(reason),
            Taken::Closing => return Fate::Closing,
            Taken::Later(reason) => {
                debug!(routing_key, message_id, correlation_id, reason, "a message has to wait");
                tokio::time::sleep(PAUSE).await;
            }
            Taken::Held(reason) => {
                tries += 1;
                place = place.or_else(|| state.parking.place());
                if tries > HELD_TRIES || place.is_none() {
                    return Fate::Parked(reason);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
