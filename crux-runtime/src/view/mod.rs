//! The clients' view of an instance: the status document, the messages of followers, and the fold
//! of journal rows that both are made of.

pub mod document;
pub(crate) mod fold;
pub mod messages;
