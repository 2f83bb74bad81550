//! The scripts, each in its own file under `lua/`. They are known to the server by hash; their
//! texts never change while the process runs, and no user input becomes part of one.

use std::sync::LazyLock;

use crate::redis_client::Script;

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::of_tag(include_str!(concat!("lua/", $file)))
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
