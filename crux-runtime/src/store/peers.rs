//! The other nodes that share a store: their descriptions, and short messages to them. Nothing here
//! is durable: a lost message is sent again by its sender, and rows whose announcement was lost are
//! found in the store.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Error, NodeNumber, Pending, Seq};
use crate::id::InstanceId;

/// What a node publishes about itself. Read leniently: nodes of other versions publish more, or
/// less.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInfo {
    /// Of the program.
    pub version: String,
    /// Where it answers HTTP; empty: not known.
    pub address: String,
    /// RFC 3339.
    pub started_at: String,
    pub definitions: Vec<HostedDefinition>,
    /// What it depends on (`store`, `bus`) and what is wrong with it; empty: nothing.
    pub dependencies: BTreeMap<String, String>,
}

/// A definition that a node can run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostedDefinition {
    pub workflow: String,
    pub version: u32,
    pub hash: String,
}

impl NodeInfo {
    pub fn hosts(&self, hash: &str) -> bool {
        self.definitions.iter().any(|definition| definition.hash == hash)
    }
}

/// A live node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    pub number: NodeNumber,
    /// `process 1234 on host`.
    pub process: String,
    #[serde(flatten)]
    pub info: NodeInfo,
}

/// An event from another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
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

    /// Changes what this node publishes about itself; the others see it after the next renewal.
    fn publish_info(&self, info: NodeInfo);

    /// Whether it was received. If not, the node is dead, or about to subscribe again.
    fn send(&self, to: NodeNumber, message: Vec<u8>) -> Pending<Result<bool, Error>>;

    /// From now on, rows of these instances are received, and of no others. It takes effect after a
    /// moment; each new one is reported once as grown.
    fn follow(&self, instances: BTreeSet<InstanceId>);

    /// The events; can be taken once. What is not received in time is dropped and becomes a
    /// [`PeerEvent::Gap`].
    fn events(&self) -> Option<mpsc::Receiver<PeerEvent>>;
}
