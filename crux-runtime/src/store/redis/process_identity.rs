//! The identity of a node's process, so that other nodes can name it and, on the same machine, see
//! immediately that it is dead.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::store::peers::NodeInfo;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Process {
    #[serde(default)]
    host: String,
    #[serde(default)]
    number: u32,
    /// This start of the machine and this space of process numbers; empty: not known.
    #[serde(default)]
    space: String,
}

impl Process {
    pub fn this() -> Self {
        let read = |path: &str| {
            std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let boot = read("/proc/sys/kernel/random/boot_id");
        let space = match std::fs::read_link("/proc/self/ns/pid") {
            Ok(space) if !boot.is_empty() => format!("{boot} {}", space.display()),
            _ => String::new(),
        };
        Self { host: read("/proc/sys/kernel/hostname"), number: std::process::id(), space }
    }

    /// Another version's description may not be readable.
    pub fn read(about: &str) -> Self {
        serde_json::from_str(about).unwrap_or_default()
    }

    /// Certain only among processes that see each other. A number that was given again counts as
    /// alive.
    pub fn knows_dead(&self, about: &str) -> bool {
        let other = Self::read(about);
        !self.space.is_empty()
            && self.space == other.space
            && !std::path::Path::new(&format!("/proc/{}", other.number)).exists()
    }
}

/// All that a node says of itself, in the registry.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct NodeRecord {
    #[serde(flatten)]
    pub process: Process,
    #[serde(default, rename = "about")]
    pub info: NodeInfo,
}

impl NodeRecord {
    /// Another version's description may not be readable.
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        // Texts and numbers always encode.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, number, space: _ } = self;
        if host.is_empty() {
            write!(f, "process {number}")
        } else {
            write!(f, "process {number} on {host}")
        }
    }
}
