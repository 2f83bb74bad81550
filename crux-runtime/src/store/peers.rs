//! The other nodes that share a store: who they are, and short messages to them. Nothing here is
//! durable: a message that gets lost is asked again by whoever waits for its answer, and rows that
//! nobody told of are found in the store.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Error, NodeNumber, Pending, Seq};
use crate::id::InstanceId;

/// What a node says of itself. Read leniently: nodes of other versions say more, or less.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// Of the program.
    pub version: String,
    /// Where it answers HTTP; empty: not known.
    pub address: String,
    /// RFC 3339.
    pub started_at: String,
    pub definitions: Vec<Hosted>,
    /// What it depends on (`store`, `bus`) and what is wrong with it; empty: nothing.
    pub dependencies: BTreeMap<String, String>,
}

/// A definition that a node can run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hosted {
    pub workflow: String,
    pub version: u32,
    pub hash: String,
}

impl About {
    pub fn hosts(&self, hash: &str) -> bool {
        self.definitions.iter().any(|definition| definition.hash == hash)
    }
}

/// A node that lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    pub number: NodeNumber,
    /// `process 1234 on host`.
    pub process: String,
    #[serde(flatten)]
    pub about: About,
}

/// What a node hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Another node has written to this one.
    Message(Vec<u8>),
    /// An instance that is followed here has grown up to that row.
    Row(InstanceId, Seq),
    /// Something may have been missed.
    Gap,
}

/// See the module's text.
pub trait Peers: Send + Sync + 'static {
    /// This node.
    fn number(&self) -> NodeNumber;

    /// All that live, this one too, as of the last renewal of its lease.
    fn nodes(&self) -> Vec<Peer>;

    /// Changes what this node says of itself; the others know it after the next renewal.
    fn say(&self, about: About);

    /// Whether somebody heard it. Nobody: the node is gone, or is just about to listen again.
    fn send(&self, to: NodeNumber, message: Vec<u8>) -> Pending<Result<bool, Error>>;

    /// From now on rows of these are heard of, and of no others. After a moment; whoever begins to
    /// be heard of is told once as grown.
    fn follow(&self, instances: BTreeSet<InstanceId>);

    /// What comes; can be taken once. What is not taken in time is dropped and becomes a
    /// [`Heard::Gap`].
    fn hear(&self) -> Option<mpsc::Receiver<Heard>>;
}
