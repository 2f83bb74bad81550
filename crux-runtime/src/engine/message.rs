//! What goes to and from shards, and how callers are answered. Below the parts of a shard, which all
//! use it.

use std::collections::VecDeque;

use tokio::sync::{oneshot, watch};

use crate::app::Workflow;
use crate::engine::active_instance::{Input, Reply};
use crate::engine::api::{self, Error, Undelivered};
use crate::engine::outbox::EffectId;
use crate::id::InstanceId;
use crate::machine::{Started, Time};
use crate::store::{self, Appended, Record, RequestKey, Stored};

/// To a shard.
pub(super) enum Message {
    Start {
        id: InstanceId,
        workflow: &'static Workflow,
        started: Box<Started>,
        request: Option<RequestKey>,
        reply: Reply<api::Started>,
    },
    For(InstanceId, Input),
    /// What became of a batch, in its order: whose rows, and their tokens.
    Appended {
        rows: Vec<(InstanceId, u64)>,
        results: Vec<Result<Appended, store::Error>>,
    },
    /// Try an append again whose outcome is not known.
    Again(InstanceId),
    /// What was read of an instance, by the load of that number.
    Loaded(InstanceId, u64, Box<Result<Option<Read>, store::Error>>),
    /// An effect is done.
    Done {
        instance: InstanceId,
        effect: EffectId,
    },
    /// A message is not out; it is offered again.
    PublishFailed {
        instance: InstanceId,
        effect: EffectId,
        reason: String,
    },
    /// An instance is due then; it need not be in memory.
    Timer(InstanceId, Time),
    /// Drops an instance if nothing of it is under way: its journal may have grown at another node.
    /// The answer: whether it may say something else when it is asked again.
    ForgetIdle {
        id: InstanceId,
        reply: oneshot::Sender<bool>,
    },
    /// Whether this node may work; when it may again, everything in memory may be old.
    Hold(bool),
    /// Finish: no new work is offered to workers.
    Drain,
    /// Tell the store what is settled.
    Flush(oneshot::Sender<()>),
    /// Whether it still takes messages.
    Ping(oneshot::Sender<()>),
    /// How much is on its way.
    Busy(oneshot::Sender<usize>),
}

/// An instance that is being read from the store.
pub(super) struct Loading {
    /// Which load it waits for: what an earlier one has read may be old.
    pub(super) number: u64,
    /// What has come for it meanwhile.
    pub(super) queue: VecDeque<Input>,
    /// It was in memory, and things may be under way of which nobody else would think again.
    pub(super) is_owed: bool,
    /// How often the store could not be reached.
    pub(super) failed: u32,
}

/// An instance as the store has it.
pub(super) struct Read {
    pub(super) record: Record,
    pub(super) rows: Vec<Stored>,
    /// Whether its mark, if it has one, is this node's.
    pub(super) carried: bool,
}

/// The input will never be applied: says so to whoever sent it.
pub(super) fn refuse(input: Input, error: Error) {
    match input {
        Input::Complete { reply, .. } => answer(reply, Err(error)),
        Input::Progress { reply, .. } | Input::Command { reply, .. } => answer(reply, Err(error)),
        Input::Deliver { reply, .. } => answer(reply, Err(error)),
        Input::Undelivered { reply } => {
            let _ = reply.send(Undelivered::default());
        }
        Input::Wake { done } => looked_at(done, false),
        Input::Report(_) | Input::Park(_) => {}
    }
}

pub(super) fn looked_at(done: Option<oneshot::Sender<bool>>, is_taken: bool) {
    if let Some(done) = done {
        // Whoever asked may have gone away.
        let _ = done.send(is_taken);
    }
}

/// Ends when somebody is back who turned tasks or messages away.
pub(super) async fn came_back(back: &mut Option<watch::Receiver<u64>>) {
    if let Some(receiver) = back {
        if receiver.changed().await.is_ok() {
            return;
        }
        // Nobody says it any more.
        *back = None;
    }
    std::future::pending().await
}

pub(super) fn not_holding() -> Error {
    Error::Store(store::Error::Unavailable(
        "this node could not renew its lease in time: another may work on the instance".to_owned(),
    ))
}

pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    // A caller that has gone away needs no answer; what was done is in the journal.
    let _ = reply.send(result);
}
