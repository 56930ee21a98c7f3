//! A base that is not there, below an image that needs nothing of it.

use std::future::ready;
use std::path::{Path, PathBuf};

use super::{BaseSource, BoxFuture, Run};
use crate::error::Error;
use crate::error::Result;
use crate::storage::IoBufMut;

/// Stands in for a base that was not opened. Every read fails.
pub struct AbsentSource {
    path: PathBuf,
    format: &'static str,
    len: u64,
    error: Error,
}

impl AbsentSource {
    /// `error`: why it was not opened.
    pub(crate) fn new(path: &Path, format: &'static str, len: u64, error: Error) -> Self {
        Self {
            path: path.to_owned(),
            format,
            len,
            error,
        }
    }
}

impl BaseSource for AbsentSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn format(&self) -> &'static str {
        self.format
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, _: IoBufMut, _: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(ready(Err(self.error.clone())))
    }

    fn status(&self, _: u64, _: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(ready(Err(self.error.clone())))
    }
}
