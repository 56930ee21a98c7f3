//! The files of a chain: none may occur twice, and their number is limited.

use std::path::Path;

use super::MAX_CHAIN_LEN;
use crate::error::{Error, Result};
use crate::remote::Identity;

/// The files that were opened so far, from the top.
#[derive(Default)]
pub(crate) struct Seen {
    files: Vec<Identity>,
    /// Number of files of the image on top that `files` does not contain.
    above: usize,
}

impl Seen {
    /// For the chain below the image in the file.
    pub(crate) fn below(file: Identity) -> Self {
        Self {
            files: vec![file],
            above: 0,
        }
    }

    /// Counts `files` more files above the chain, which need not exist yet.
    pub(crate) fn with_above(self, files: usize) -> Self {
        Self { above: files, ..self }
    }

    /// Whether no file was added yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds a file that was opened at `path`.
    pub(crate) fn add(&mut self, identity: Identity, path: &Path) -> Result<()> {
        if self.files.contains(&identity) {
            let message = "The file is part of its own backing chain";
            return Err(Error::invalid_image(message).with_path(path));
        }
        if self.files.len() + self.above >= MAX_CHAIN_LEN {
            return Err(self.too_long().with_path(path));
        }
        self.files.push(identity);
        Ok(())
    }

    fn too_long(&self) -> Error {
        let hint = "`fvd convert` makes one image of a chain";
        let message = if self.above == 0 {
            format!("The backing chain has more than {MAX_CHAIN_LEN} files")
        } else {
            format!("With the image above it, the backing chain would have more than {MAX_CHAIN_LEN} files")
        };
        Error::unsupported(message).with_hint(hint)
    }
}
