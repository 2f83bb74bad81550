//! The scripts, each in its own file under `lua/`. Each touches one stream.

use std::sync::LazyLock;

use crate::redis_client::Script;

/// Adds an entry, if a group is there and there is room.
pub(super) static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::of_key(concat!(include_str!("lua/trim.lua"), include_str!("lua/publish.lua")))
});
/// Removes what all groups have acknowledged.
pub(super) static TIDY: LazyLock<Script> = LazyLock::new(|| {
    Script::of_key(concat!(include_str!("lua/trim.lua"), include_str!("lua/tidy.lua")))
});
/// Acknowledges.
pub(super) static SETTLE: LazyLock<Script> =
    LazyLock::new(|| Script::of_key(include_str!("lua/settle.lua")));
/// Adds a broadcast.
pub(super) static SAY: LazyLock<Script> =
    LazyLock::new(|| Script::of_key(include_str!("lua/say.lua")));
/// Moves an entry that was not started to the end of its stream.
pub(super) static GIVE_BACK: LazyLock<Script> =
    LazyLock::new(|| Script::of_key(include_str!("lua/give_back.lua")));
/// A consumer goes.
pub(super) static LEAVE: LazyLock<Script> =
    LazyLock::new(|| Script::of_key(include_str!("lua/leave.lua")));
/// Deletes dead consumers.
pub(super) static SWEEP: LazyLock<Script> =
    LazyLock::new(|| Script::of_key(include_str!("lua/sweep.lua")));
/// Parks an entry, if there is room.
pub(super) static PARK: LazyLock<Script> =
    LazyLock::new(|| Script::of_key(include_str!("lua/park.lua")));
/// Parked entries that are due.
pub(super) static DUE: LazyLock<Script> =
    LazyLock::new(|| Script::of_key(include_str!("lua/due.lua")));
