//! Free space on the store's disk.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub(super) struct FreeSpace {
    folder: PathBuf,
    reserve_bytes: u64,
}

impl FreeSpace {
    pub fn of(path: &Path, reserve_bytes: u64) -> Self {
        let folder =
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { folder: folder.to_owned(), reserve_bytes }
    }

    /// `None`: not known.
    #[cfg(unix)]
    pub fn free_bytes(&self) -> Option<u64> {
        let file_system = rustix::fs::statvfs(&self.folder).ok()?;
        Some(file_system.f_bavail.saturating_mul(file_system.f_frsize))
    }

    #[cfg(not(unix))]
    pub fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Why nothing new may begin: what is left is for what has begun.
    pub fn refusal(&self) -> Option<String> {
        let free_bytes = self.free_bytes()?;
        let reserve_bytes = self.reserve_bytes;
        let folder = self.folder.display();
        (free_bytes < reserve_bytes)
            .then(|| format!("{free_bytes} bytes are free in {folder}, and {reserve_bytes} are kept for what has begun: make room there"))
    }
}
