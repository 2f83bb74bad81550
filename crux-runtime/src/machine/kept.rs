//! Results that outlive the failure of the composite step that they belong to.
//!
//! A state holds the results that its next steps read. When a group, `parallel` or another
//! composite step fails, the state inside it is gone, and with it the results of the steps that had
//! completed there. Where a `catch` takes that failure, the steps in it and after it may read those
//! results. The compiler marks the nodes that are read so; their results are kept here, by node and
//! element.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::path::{Indices, Path};
use super::{Definition, Value, json};

/// The results of one instance that are read after a failure, as JSON.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<Path, Box<RawValue>>);

impl Kept {
    /// A result of the node at `path`, if it is one to keep. A later round of a `repeat` replaces
    /// that of the one before.
    pub(super) fn keep(&mut self, definition: &Definition, path: &Path, result: &RawValue) {
        if definition.node(path.node).is_some_and(|node| node.is_kept) {
            self.0.insert(definition.in_element(path), result.to_owned());
        }
    }

    /// The result of a step, as it is seen from `at`.
    pub(super) fn get<T: Value>(
        &self,
        definition: &Definition,
        node: u16,
        at: Indices,
    ) -> Option<Arc<T>> {
        let result = self.0.get(&definition.in_element(&Path { node, at }))?;
        // It was of the contract's type when the step completed.
        json::decode(result).ok().map(Arc::new)
    }

    /// A round of the `repeat` of that number begins: the results of the last one are not its own.
    pub(super) fn begin_round(&mut self, definition: &Definition, repeat: u16, at: Indices) {
        self.0.retain(|path, _| {
            !(definition.is_inside(path.node, repeat) && is_same_place(path.at, at))
        });
    }

    /// An element of an `each` is done: nobody outside reads what is inside it.
    pub(super) fn end_element(&mut self, at: Indices) {
        self.0.retain(|path, _| !(path.at.len() >= at.len() && is_same_place(path.at, at)));
    }
}

/// Whether one of them stands in the other, or both are the same.
fn is_same_place(a: Indices, b: Indices) -> bool {
    a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| a == b)
}
