//! What the server asks of a disk, and which disks there are.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use fvd::storage::{IoBufMut, Space};
use fvd::{Error, ErrorKind, Result};

use crate::error::{Errno, Refusal};
use crate::export::ExportInfo;
use crate::handshake::Catalog;
use crate::meta::Status;

/// How to write zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zeroing {
    /// All of the range has space afterwards, so that a later write finds it.
    pub no_hole: bool,
    /// Fails with [`ErrorKind::Unsupported`], at once and with nothing changed, where writing the
    /// zeros would be as fast.
    pub fast: bool,
}

impl Zeroing {
    /// What becomes of the space; `discards` says whether any is to be freed at all.
    #[must_use]
    pub fn space(self, discards: bool) -> Space {
        match (self.no_hole, discards) {
            (true, _) => Space::Allocate,
            (false, true) => Space::Free,
            (false, false) => Space::Keep,
        }
    }
}

/// A disk that is served. Ranges lie within its size; a write never comes to one that is read-only.
///
/// Requests are begun in the order in which they come, and run at once. Dropping one of the futures
/// must not lose what was answered before.
pub trait Export: Send + Sync + 'static {
    /// As clients see it; asked at the handshake of each.
    fn info(&self) -> ExportInfo;

    /// Fills `buf` from `offset` (bytes) and gives it back.
    fn read(&self, buf: IoBufMut, offset: u64) -> impl Future<Output = Result<IoBufMut>> + Send;

    /// Writes `buf` at `offset` (bytes); durable after the next [`Export::flush`].
    fn write(&self, buf: Bytes, offset: u64) -> impl Future<Output = Result<()>> + Send;

    /// Makes what has completed durable, on all connections.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// Makes `length` bytes from `offset` read as zeros.
    fn write_zeroes(&self, offset: u64, length: u64, how: Zeroing) -> impl Future<Output = Result<()>> + Send;

    /// Gives up `length` bytes from `offset`, or any part of them, or nothing.
    fn trim(&self, offset: u64, length: u64) -> impl Future<Output = Result<()>> + Send;

    /// Prepares for reads of `length` bytes from `offset`, or does nothing.
    fn cache(&self, offset: u64, length: u64) -> impl Future<Output = Result<()>> + Send;

    /// What lies from `offset` on, piece by piece: calls `piece` with the length in bytes and the
    /// status of each, until it says false or `length` bytes (at least 1) are covered. One piece at
    /// least; fewer bytes than asked for are allowed.
    fn status(
        &self,
        offset: u64,
        length: u64,
        piece: &mut (dyn FnMut(u64, Status) -> bool + Send),
    ) -> impl Future<Output = Result<()>> + Send;
}

/// The disks of a server, by name.
#[derive(Debug)]
pub struct Exports<E> {
    by_name: BTreeMap<String, Arc<E>>,
}

impl<E: Export> Exports<E> {
    /// No disk.
    #[must_use]
    pub fn new() -> Self {
        Self {
            by_name: BTreeMap::new(),
        }
    }

    /// Adds a disk under its own name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] where the protocol cannot express what the disk says of
    /// itself, or the name is taken.
    pub fn add(&mut self, export: Arc<E>) -> Result<()> {
        let info = export.info();
        info.check().map_err(Error::invalid_argument)?;
        if self.by_name.contains_key(&info.name) {
            return Err(Error::invalid_argument(format!(
                "there are two exports with the name {:?}",
                info.name
            )));
        }
        self.by_name.insert(info.name, export);
        Ok(())
    }

    /// The disk that clients know as `name`. If there is only one, it is the default, too.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<E>> {
        let only = || (name.is_empty() && self.by_name.len() == 1).then(|| self.by_name.values().next());
        self.by_name.get(name).or_else(|| only().flatten())
    }
}

impl<E: Export> Default for Exports<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Export> Catalog for Exports<E> {
    fn list(&self) -> Vec<ExportInfo> {
        self.by_name.values().map(|export| export.info()).collect()
    }

    fn find(&self, name: &str) -> Option<ExportInfo> {
        self.get(name).map(|export| export.info())
    }
}

/// An error of the engine, as a client gets it. Paths stay on this side.
pub(super) fn refusal(error: &Error) -> Refusal {
    let errno = match error.kind() {
        ErrorKind::NotPermitted => Errno::Perm,
        ErrorKind::NoSpace => Errno::NoSpc,
        ErrorKind::InvalidArgument | ErrorKind::Unsupported => Errno::Inval,
        ErrorKind::Cancelled => Errno::Shutdown,
        _ => Errno::Io,
    };
    Refusal::new(errno, error.reason())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::MemoryExport;

    #[test]
    fn a_single_export_is_the_default_one_too() {
        let mut exports = Exports::new();
        exports.add(Arc::new(MemoryExport::new("one", 512))).unwrap();
        assert_eq!(exports.find("").unwrap().name, "one");
        exports.add(Arc::new(MemoryExport::new("two", 512))).unwrap();
        assert!(exports.find("").is_none());
        assert_eq!(exports.list().len(), 2);
        assert!(exports.add(Arc::new(MemoryExport::new("two", 512))).is_err());
        assert!(exports.add(Arc::new(MemoryExport::new("a\0b", 512))).is_err());
    }
}
