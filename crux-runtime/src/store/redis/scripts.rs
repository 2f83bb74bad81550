//! The scripts, each in a file of its own under `lua/`. They are known to the server by hash; their texts never change while the process
//! runs, and no text of a user's becomes a part of one.

use std::sync::LazyLock;

/// A fixed script.
pub(super) struct Script {
    pub text: &'static str,
    /// Hex SHA-1, by which the server knows it.
    pub hash: String,
}

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = include_str!(concat!("lua/", $file));
            Script { text, hash: redis::Script::new(text).get_hash().to_owned() }
        });)*
    };
}

scripts! {
    APPEND "append.lua"
    CLAIM "claim.lua"
    DELIVERED "delivered.lua"
    FENCE "fence.lua"
    FORGET "forget.lua"
    KEEP "keep.lua"
    KEPT "kept.lua"
    LEAVE "leave.lua"
    REMOVE "remove.lua"
    RENEW "renew.lua"
    SETTLE "settle.lua"
}
