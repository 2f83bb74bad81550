//! Messages to and from shards, and how callers are answered. All parts of a shard build on this
//! module.

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
        reply: Reply<api::StartAccepted>,
    },
    For(InstanceId, Input),
    /// The results of a batch, in its order: whose rows, and their tokens.
    Appended {
        rows: Vec<(InstanceId, u64)>,
        results: Vec<Result<Appended, store::Error>>,
    },
    /// Try an append again whose outcome is not known.
    Again(InstanceId),
    /// The result of loading an instance, with the number of the load.
    Loaded(InstanceId, u64, Box<Result<Option<Read>, store::Error>>),
    /// An effect is done.
    Done {
        instance: InstanceId,
        effect: EffectId,
    },
    /// Publishing a message failed; it is retried.
    PublishFailed {
        instance: InstanceId,
        effect: EffectId,
        reason: String,
    },
    /// An instance is due then; it need not be in memory.
    Timer(InstanceId, Time),
    /// Unloads an idle instance: its journal may have grown at another node. The answer: whether a
    /// repeated request may get another result.
    UnloadIfIdle {
        id: InstanceId,
        reply: oneshot::Sender<bool>,
    },
    /// The node's lease was lost, or acquired again; then everything in memory may be stale.
    LeaseChanged(bool),
    /// Finish: no new work is offered to workers.
    Drain,
    /// Tell the store what is settled.
    Flush(oneshot::Sender<()>),
    /// Liveness probe.
    Ping(oneshot::Sender<()>),
    /// How many instances are busy.
    Busy(oneshot::Sender<usize>),
}

/// An instance that is being read from the store.
pub(super) struct Loading {
    /// Which load it waits for: what an earlier one has read may be old.
    pub(super) number: u64,
    /// Inputs that arrived during the load.
    pub(super) queue: VecDeque<Input>,
    /// Load it even if nothing is queued: it was in memory, and may have pending effects that
    /// nothing else would repeat.
    pub(super) must_load: bool,
    /// How often the store could not be reached.
    pub(super) failed: u32,
}

/// An instance as the store has it.
pub(super) struct Read {
    pub(super) record: Record,
    pub(super) rows: Vec<Stored>,
    /// Whether this node owns its unsettled flag, if it has one.
    pub(super) is_owned: bool,
}

/// Rejects an input that will never be applied.
pub(super) fn refuse(input: Input, error: Error) {
    match input {
        Input::Complete { reply, .. } => answer(reply, Err(error)),
        Input::Progress { reply, .. } | Input::Command { reply, .. } => answer(reply, Err(error)),
        Input::Deliver { reply, .. } => answer(reply, Err(error)),
        Input::Undelivered { reply } => {
            let _ = reply.send(Undelivered::default());
        }
        Input::Wake { ack } => acknowledge(ack, false),
        Input::Report(_) | Input::Park(_) => {}
    }
}

pub(super) fn acknowledge(ack: Option<oneshot::Sender<bool>>, is_taken: bool) {
    if let Some(ack) = ack {
        // The receiver may have been dropped; ignore.
        let _ = ack.send(is_taken);
    }
}

/// Completes when a service or subscriber that refused tasks or messages accepts them again.
pub(super) async fn service_returned(back: &mut Option<watch::Receiver<u64>>) {
    if let Some(receiver) = back {
        if receiver.changed().await.is_ok() {
            return;
        }
        // The sender was dropped: no more notifications.
        *back = None;
    }
    std::future::pending().await
}

pub(super) fn lease_lost() -> Error {
    Error::Store(store::Error::Unavailable(
        "this node could not renew its lease in time; another node may own the instance".to_owned(),
    ))
}

pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    // The receiver may have been dropped; the result is in the journal.
    let _ = reply.send(result);
}
