//! Which step of an instance: the number of its node in the definition and the numbers of the
//! elements and rounds around it. A path is small and `Copy`, because every event carries one; its
//! text (`ship[3]/label`) is made only where people read it.

/// How deep `each` and `repeat` may nest; the compiler refuses more.
pub const MAX_LOOPS: usize = 6;

/// Element and round numbers of the loops around a step, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Indices {
    len: u8,
    at: [u32; MAX_LOOPS],
}

impl Indices {
    pub fn as_slice(&self) -> &[u32] {
        &self.at[..usize::from(self.len)]
    }

    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The outermost `len` of them.
    pub(super) fn truncated(self, len: usize) -> Self {
        self.as_slice()
            .iter()
            .take(len)
            .fold(Self::default(), |at, index| at.pushed(*index).unwrap_or(at))
    }

    /// One loop deeper. `None` past [`MAX_LOOPS`].
    pub fn pushed(mut self, index: u32) -> Option<Self> {
        *self.at.get_mut(usize::from(self.len))? = index;
        self.len += 1;
        Some(self)
    }
}

/// One step of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Path {
    /// The number of the node, see [`super::Definition::nodes`].
    pub node: u16,
    pub at: Indices,
}

impl Path {
    /// A step outside all loops.
    pub fn new(node: u16) -> Self {
        Self { node, at: Indices::default() }
    }

    /// The element or round of the loop at `depth` (0 = outermost).
    pub fn index(&self, depth: usize) -> Option<u32> {
        self.at.as_slice().get(depth).copied()
    }
}
