//! The store: where journals live. One contract for SQLite, Redis and memory, no stronger than the
//! weakest of them: an append is atomic for one instance and for nothing else. A store knows
//! instances, rows, unsettled flags, subscriptions and kept events; it does not know what a
//! workflow is, and never looks into a row.

pub mod memory;
pub mod peers;
pub mod redis;
pub mod sqlite;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::id::InstanceId;
use crate::machine::Time;

/// A boxed future of the store's.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The number of a row in its instance's journal, from 1; 0 is before the first.
pub type Seq = u32;

/// A node among those that share the store; never given twice.
pub type NodeNumber = u64;

/// Where instances are, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Processing,
    Waiting,
    Paused,
    Parked,
    Undoing,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub const ALL: [Status; 9] = [
        Status::Pending,
        Status::Processing,
        Status::Waiting,
        Status::Paused,
        Status::Parked,
        Status::Undoing,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
    ];

    /// The word of documents, queries and the database.
    pub fn word(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Processing => "processing",
            Status::Waiting => "waiting",
            Status::Paused => "paused",
            Status::Parked => "parked",
            Status::Undoing => "undoing",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    /// The states of instances that have not ended.
    pub fn open() -> impl Iterator<Item = Self> + Clone {
        Self::ALL.into_iter().filter(|status| !status.is_ended())
    }

    pub fn is_ended(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }
}

/// One transition to be made durable.
#[derive(Debug, Clone)]
pub struct Append {
    pub instance: InstanceId,
    /// The row's number. The journal must hold exactly the rows before it.
    pub seq: Seq,
    /// Random; distinguishes the store's own earlier success from another writer's row when an
    /// outcome was unknown.
    pub token: u64,
    /// See [`crate::journal`]. Shared: the engine keeps it until the answer has come.
    pub row: Arc<str>,
    /// Every effect of the rows up to this number is confirmed. If it is `seq` itself, this very
    /// append settles the instance, without a `wake_at` (an instance that ended without pending
    /// effects); otherwise it sets the unsettled flag.
    pub settled: Seq,
    /// With row 1 only.
    pub start: Option<Box<NewInstance>>,
    /// The new record of the instance; `None`: only its journal grows.
    pub record: Option<RecordChange>,
}

/// The record of an instance that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInstance {
    pub workflow: String,
    pub version: u32,
    /// Hex hash of the definition.
    pub definition: String,
    pub owner: String,
    pub started_at: Time,
    pub request: Option<RequestKey>,
}

/// A request id in its scope: at most one instance is ever started for it while that instance is
/// kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Client and workflow.
    pub scope: String,
    pub id: String,
    /// SHA-256 of the input, to tell a repetition from a misuse.
    pub input_hash: [u8; 32],
}

/// A change of an instance's record, made atomically with the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordChange {
    pub status: Status,
    /// When the instance ended and how long it is kept from then on, in milliseconds.
    pub ended: Option<(Time, u64)>,
}

/// The result of an append.
#[derive(Debug, Clone)]
pub enum Appended {
    Done,
    /// The very same append was already there: its first answer got lost.
    Same,
    /// Another writer appended first: the rows from `Append::seq` on.
    Behind(Vec<Stored>),
    /// The journal is shorter than what was answered, by the rows from `have` on: the store lost
    /// them, as a server does that fails over to a replica. The state in memory is invalid.
    Lost {
        have: Seq,
    },
    /// That node owns the instance: nothing was written. If the node is gone, the instance can be
    /// claimed.
    OwnedElsewhere {
        by: NodeNumber,
    },
    /// The request id has been used: by this instance, with the same input or with another.
    Used {
        instance: InstanceId,
        same_input: bool,
    },
}

/// A row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub seq: Seq,
    pub settled: Seq,
    pub row: Arc<str>,
}

/// An instance's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub instance: InstanceId,
    pub workflow: String,
    pub version: u32,
    pub definition: String,
    pub owner: String,
    pub status: Status,
    pub started_at: Time,
    pub ended_at: Option<Time>,
    /// Whether the effects of all its rows are done ([`Store::settle`]). Lists may be a little
    /// behind.
    pub settled: bool,
    /// The owner node, if the instance is unsettled and nodes share the store.
    pub owner_node: Option<NodeNumber>,
}

/// An instance that has nothing more to do until something comes, or time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub instance: InstanceId,
    /// The last row whose effects are done. If the journal has grown since, nothing is changed.
    pub seq: Seq,
    /// Next wake-up time; may fire early, never late. `None`: only on external input.
    pub wake_at: Option<Time>,
}

/// A step that waits for an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subscription {
    pub event: String,
    /// What the event's correlating field must equal; `None`: any event of that name.
    pub value: Option<String>,
    pub instance: InstanceId,
    /// The step's path as text.
    pub path: String,
}

/// An event that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEvent {
    pub name: String,
    /// The value of its correlating field, if the event has one.
    pub value: Option<String>,
    /// Unique per name: an event is kept once.
    pub id: String,
    pub data: String,
    /// The client that sent it, or to which the instance belongs that did; `""`: none. Owns what
    /// the event starts.
    pub owner: String,
    /// W3C trace context; may be empty.
    pub traceparent: String,
    pub at: Time,
    /// Until when waits may still find it.
    pub keep_until: Time,
}

/// An event whose starts or deliveries are not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndeliveredEvent {
    pub event: KeptEvent,
    /// Its starts are done: only deliveries to waits are left.
    pub has_started: bool,
    /// Its place in the store's order, for the page after it.
    pub place: String,
}

/// A definition that instances need which have not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    pub workflow: String,
    pub version: u32,
    pub definition: String,
    pub instances: u64,
}

/// How many instances of a workflow are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub workflow: String,
    pub status: Status,
    pub instances: u64,
}

/// Which instances to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub workflow: Option<String>,
    pub status: Option<Status>,
    pub owner: Option<String>,
    /// Only instances older than this one: the last of the page before.
    pub after: Option<InstanceId>,
    pub limit: usize,
}

/// This process among those that share the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// The number of this node; it gets another one after its lease has expired. 0 if the store is
    /// not shared.
    pub number: NodeNumber,
    /// Whether this node holds its lease. While it does not, nothing can be appended, and others
    /// may have taken its instances over: running attempts are to be stopped. When it holds a lease
    /// again, what is in memory may be stale.
    pub holds_lease: bool,
    /// Grows when nodes have died, also this one under an earlier number: their instances can be
    /// claimed.
    pub departures: u64,
}

impl Default for Membership {
    fn default() -> Self {
        Self { number: 0, holds_lease: true, departures: 0 }
    }
}

/// Why a call to the store failed.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// Nothing was written; it may work again when there is room.
    #[error("the disk is full: {0}")]
    Full(String),
    /// The outcome is unknown to the store; the same append may be tried again with the same token.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// A bug, or a damaged store.
    #[error("the store failed: {0}")]
    Broken(String),
    #[error("{path} is in use by another process{}: stop it, or set another `store.path`", number(.pid))]
    InUse { path: String, pid: Option<u32> },
    /// To open it would lose or destroy what is there.
    #[error("{0}")]
    Refused(String),
    #[error(
        "Redis at {place} may lose what it has confirmed, and `store.require_durable` is set: {why}"
    )]
    NotDurable { place: String, why: String },
    #[error(
        "{path} was written by a newer version of Crux (format {found}, this binary reads up to {known})"
    )]
    Newer { path: String, found: u32, known: u32 },
}

fn number(pid: &Option<u32>) -> String {
    pid.map_or(String::new(), |pid| format!(" (number {pid})"))
}

/// The contract. Every method may be called from any task; a call sees the effect of every call
/// that was answered before it was made. A call takes effect even if the caller drops the future.
pub trait Store: Send + Sync + 'static {
    /// Appends rows of any instances, each for itself; at most one per instance in a batch. Durable
    /// when answered. One that leaves a gap is [`Error::Broken`], or [`Appended::Lost`] of a store
    /// that can lose what it has answered.
    fn append(&self, batch: Vec<Append>) -> Pending<Vec<Result<Appended, Error>>>;

    /// Clears unsettled flags, and sets wake-ups. An answered change that is not yet on disk may be
    /// lost with the process: then more is loaded after its restart than needed. After an error it
    /// is asked for again.
    fn settle(&self, batch: Vec<Settled>) -> Pending<Result<(), Error>>;

    fn record(&self, instance: InstanceId) -> Pending<Result<Option<Record>, Error>>;

    /// Rows with a number greater than `after`, at most `limit`, in order.
    fn rows(
        &self,
        instance: InstanceId,
        after: Seq,
        limit: usize,
    ) -> Pending<Result<Vec<Stored>, Error>>;

    fn list(&self, filter: Filter) -> Pending<Result<Vec<Record>, Error>>;

    /// Instances with the unsettled flag, by id, greater than `after`.
    fn unsettled(
        &self,
        after: Option<InstanceId>,
        limit: usize,
    ) -> Pending<Result<Vec<InstanceId>, Error>>;

    /// Settled instances whose `wake_at` is at or before `until`, by time and id, after `after`
    /// (the last of the page before).
    fn due(
        &self,
        after: Option<(Time, InstanceId)>,
        until: Time,
        limit: usize,
    ) -> Pending<Result<Vec<(Time, InstanceId)>, Error>>;

    /// Sets the unsettled flag of these for this node, unless another live node owns them; returns
    /// those that this node owns now. The flag stays until they are settled, also where the journal
    /// has not grown, and as long as it is set no other node appends. What an earlier process left
    /// unsettled has to be claimed. Instances of definitions that this node does not have
    /// ([`peers::NodeInfo`]) are left to others. A store of a single process has one node, which
    /// owns everything.
    fn claim(&self, batch: Vec<InstanceId>) -> Pending<Result<Vec<InstanceId>, Error>> {
        Box::pin(std::future::ready(Ok(batch)))
    }

    /// The other nodes on this store, and the way to them. `None`: this process has it to itself.
    fn peers(&self) -> Option<Arc<dyn peers::Peers>> {
        None
    }

    /// Whether this node holds its lease, and whether others have gone. A store of a single process
    /// never changes.
    fn membership(&self) -> watch::Receiver<Membership> {
        watch::channel(Membership::default()).1
    }

    /// Idempotent.
    fn subscribe(&self, batch: Vec<Subscription>) -> Pending<Result<(), Error>>;

    /// Idempotent.
    fn unsubscribe(&self, batch: Vec<Subscription>) -> Pending<Result<(), Error>>;

    /// The subscriptions to that event with that value or with any value (`None`: only the latter),
    /// in a stable order, after `after`.
    fn subscribers(
        &self,
        event: String,
        value: Option<String>,
        after: Option<Subscription>,
        limit: usize,
    ) -> Pending<Result<Vec<Subscription>, Error>>;

    /// Keeps events, undelivered at first; for each whether it is new (`false`: one of that name
    /// and id is there). Durable when answered.
    fn keep(&self, batch: Vec<KeptEvent>) -> Pending<Result<Vec<bool>, Error>>;

    /// Events that a wait for that name and value (`None`: any) may still take, oldest first.
    fn kept(
        &self,
        event: String,
        value: Option<String>,
        now: Time,
    ) -> Pending<Result<Vec<KeptEvent>, Error>>;

    /// The starts and deliveries of these events are complete. Lazy.
    fn delivered(&self, batch: Vec<(String, String)>) -> Pending<Result<(), Error>>;

    /// The starts of these events are done, but not all deliveries: they stay undelivered. Lazy.
    fn started(&self, batch: Vec<(String, String)>) -> Pending<Result<(), Error>>;

    /// Events that may be undelivered, oldest first, after `after` (the place of the last of the
    /// page before). They are kept until they are delivered, also past their time.
    fn undelivered(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Pending<Result<Vec<UndeliveredEvent>, Error>>;

    /// The definitions of all instances that have not ended. Takes its time; may be a little
    /// behind.
    fn in_use(&self) -> Pending<Result<Vec<InUse>, Error>>;

    /// The number of open instances of these workflows, on any node. Absent means none.
    fn count(&self, workflows: Vec<String>) -> Pending<Result<Vec<Count>, Error>>;

    /// The definition's document (JSON), kept so that instances can be shown by binaries that do
    /// not have it. Idempotent.
    fn define(&self, hash: String, document: String) -> Pending<Result<(), Error>>;

    fn definition(&self, hash: String) -> Pending<Result<Option<String>, Error>>;

    /// Removes instances whose time of keeping is over, and events past theirs; at most `limit` of
    /// each. How many instances went.
    fn expire(&self, now: Time, limit: usize) -> Pending<Result<usize, Error>>;

    /// Why the store cannot be relied on although it answers: nothing can be written, or data was
    /// lost. Shown in health.
    fn problem(&self) -> Option<String> {
        None
    }

    /// Bytes free where the store grows; `None`: not known.
    fn free_bytes(&self) -> Option<u64>;

    /// Writes everything pending and closes; later calls answer [`Error::Unavailable`].
    fn close(&self) -> Pending<Result<(), Error>>;
}
