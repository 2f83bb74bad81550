//! The journal's text: one JSON row per transition, for people, SQL and followers. A row holds the
//! events that were applied and, in `out`, the consequences that cannot be read off them (which
//! steps began, how the instance ended), so that documents and live messages can be made from rows
//! alone, also of a workflow that this binary does not have.
//!
//! `{"v":1,"at":1764000000000,"events":[{"type":"step_completed","path":"a","attempt":1,"result":{…}}],"out":[{"type":"step_started","path":"b","attempt":1}]}`

mod read;
mod write;

pub use read::{Entry, EntryType, Error, Row};
pub use write::row;

/// The version that [`row`] writes. Rows of a higher version are refused, not guessed at.
pub const VERSION: u32 = 1;
