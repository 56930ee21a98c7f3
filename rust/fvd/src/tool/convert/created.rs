//! Removes the files of a failed conversion.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::process::Process;
use crate::storage::FileStorage;

/// Regular files that this conversion created or emptied. They are removed on drop unless
/// [`keep`](Self::keep) was called.
#[derive(Debug, Default)]
pub(super) struct Created {
    files: Vec<(PathBuf, (u64, u64))>,
    /// The process that created them. A forked child must not remove them.
    process: Process,
}

impl Created {
    /// Creates or empties the file at `path`. A device keeps its content and is never removed.
    pub(super) fn create(&mut self, path: &Path, direct: bool) -> Result<FileStorage> {
        let storage = FileStorage::create(path, direct)?;
        if !storage.is_device() {
            self.files.push((path.to_owned(), storage.identity()));
        }
        Ok(storage)
    }

    /// Keeps all files, because the conversion succeeded.
    pub(super) fn keep(&mut self) {
        self.files.clear();
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if !self.process.is_current() {
            return;
        }
        for (path, identity) in &self.files {
            // Remove the half-written file itself, not a symbolic link to it. Another process may have
            // replaced it in the meantime, so compare its identity.
            let Ok(path) = fs::canonicalize(path) else {
                continue;
            };
            let is_ours = fs::metadata(&path).is_ok_and(|m| (m.dev(), m.ino()) == *identity);
            if is_ours {
                let _ = fs::remove_file(path);
            }
        }
    }
}
