//! A script that the server knows by its hash. Its text never changes while the process runs, and
//! no user input becomes part of it.

pub(crate) struct Script {
    pub(super) text: &'static str,
    /// Hex SHA-1, by which the server knows it.
    pub(super) hash: String,
    /// It reads and writes keys of its tag that it does not name. While a slot is moved from one
    /// server to another, its keys are here and there; such a script has to wait until they are
    /// together again.
    pub(super) is_of_tag: bool,
}

impl Script {
    /// Of one key, which is the only one that it touches.
    pub(crate) fn of_key(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned(), is_of_tag: false }
    }

    /// Of a whole tag, of which it is given the base.
    pub(crate) fn of_tag(text: &'static str) -> Self {
        Self { is_of_tag: true, ..Self::of_key(text) }
    }
}
