//! Files that a failed conversion must not leave behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::process::Process;
use crate::storage::FileStorage;

/// Regular files made, or emptied, by this conversion; removed on drop unless it succeeded.
#[derive(Debug, Default)]
pub(super) struct Created {
    files: Vec<(PathBuf, (u64, u64))>,
    /// The process that made them: no other one removes them.
    process: Process,
}

impl Created {
    /// Makes or empties the file at `path`. A device is opened as it is, and never removed.
    pub(super) fn create(&mut self, path: &Path, direct: bool) -> Result<FileStorage> {
        let storage = FileStorage::create(path, direct)?;
        if !storage.is_device() {
            self.files.push((path.to_owned(), storage.identity()));
        }
        Ok(storage)
    }

    /// The conversion succeeded: everything stays.
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
            // Through a link, it is the file that is half written. Somebody may have put another
            // one there meanwhile.
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
