//! What the document of a definition says: its steps, and which of its values are secret. The store
//! keeps the document, so this also holds for a workflow that this binary does not have any more.

pub(crate) mod secrets;
pub(crate) mod shape;
