//! A script that the server knows by its hash. Its text never changes while the process runs, and no text of a user's becomes a part of it.

pub(crate) struct Script {
    pub(super) text: &'static str,
    /// Hex SHA-1, by which the server knows it.
    pub(super) hash: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }
}
