//! Identities. An instance's id is a UUIDv7 whose last ten bits are its partition; a step's id is a
//! UUIDv8 made of the instance's id and the step's path, so that it needs no table. Both are shown
//! bare, or with the prefixes `workflow_instance:` and `step_instance:`; both forms are read
//! everywhere.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::machine::Time;

/// How many partitions there are; an instance's id says which is its own.
pub const PARTITIONS: u16 = 1024;

/// An instance's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub [u8; 16]);

/// The id of one step of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub [u8; 16]);

/// The partition of a text: of a request id or of an event's name and value.
pub fn partition_of(text: &str) -> u16 {
    let digest = Sha256::digest(text.as_bytes());
    u16::from_be_bytes([digest[0], digest[1]]) % PARTITIONS
}

impl InstanceId {
    /// A new id. `random` fills what time and partition leave; instances of one request id share
    /// its partition.
    pub fn new(now: Time, random: [u8; 10], request_id: Option<&str>) -> Self {
        let mut bytes = [0; 16];
        let ms = u64::try_from(now.0).unwrap_or(0).to_be_bytes();
        bytes[..6].copy_from_slice(&ms[2..]);
        bytes[6..].copy_from_slice(&random);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        if let Some(request_id) = request_id {
            let partition = partition_of(request_id).to_be_bytes();
            bytes[14] = (bytes[14] & 0xfc) | partition[0];
            bytes[15] = partition[1];
        }
        Self(bytes)
    }

    /// A seed that differs between instances and is constant for one: for variation that can be
    /// replayed.
    pub(crate) fn seed(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    pub fn partition(&self) -> u16 {
        u16::from_be_bytes([self.0[14] & 0x03, self.0[15]])
    }

    /// The id of the step at `path`.
    pub fn step(&self, path: &str) -> StepId {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(path.as_bytes());
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[6] = 0x80 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        StepId(bytes)
    }

    /// `workflow_instance:…`.
    pub fn prefixed(&self) -> String {
        format!("workflow_instance:{self}")
    }
}

impl StepId {
    /// `step_instance:…`.
    pub fn prefixed(&self) -> String {
        format!("step_instance:{self}")
    }
}

/// A map by instance. Ids are made here and random already, so hashing them well would be work for
/// nothing.
pub type InstanceMap<V> = HashMap<InstanceId, V, BuildHasherDefault<RandomIdHasher>>;

/// See [`InstanceMap`].
#[derive(Debug, Default)]
pub struct RandomIdHasher(u64);

impl Hasher for RandomIdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*last);
        }
    }

    fn finish(&self) -> u64 {
        // The map takes its groups from the top bits and its slots from the bottom ones; the
        // partition sits in some of them.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A string that is not an id of that kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected a UUID, bare or as `{1}<uuid>`")]
pub struct Error(String, &'static str);

macro_rules! id {
    ($name:ident, $prefix:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_bytes(self.0).hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let bare = text.strip_prefix($prefix).unwrap_or(text);
                let error = || Error(text.chars().take(80).collect(), $prefix);
                Uuid::try_parse(bare).map(|uuid| Self(uuid.into_bytes())).map_err(|_| error())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(InstanceId, "workflow_instance:");
id!(StepId, "step_instance:");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_one_request_share_its_partition() {
        let id = InstanceId::new(Time(1_700_000_000_000), [0xff; 10], Some("req-1"));
        assert_eq!(id.partition(), partition_of("req-1"));
        assert_eq!(Uuid::from_bytes(id.0).get_version_num(), 7);
    }

    #[test]
    fn both_forms_of_an_id_are_read() {
        let id = InstanceId::new(Time(1), [7; 10], None);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.prefixed().parse(), Ok(id));
        assert!("workflow_instance:123456".parse::<InstanceId>().is_err());
        assert_ne!(id.step("a"), id.step("b"));
    }
}
