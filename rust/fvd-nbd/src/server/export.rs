//! The interface of the server to a disk, and the list of disks.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use fvd::storage::{IoBufMut, Space};
use fvd::{Error, ErrorKind, Result};

use crate::protocol::error::{Errno, Refusal};
use crate::protocol::export::ExportInfo;
use crate::protocol::handshake::Catalog;
use crate::protocol::meta::Status;

/// How to write zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zeroing {
    /// The whole range is allocated afterwards, so that a later write cannot run out of space.
    pub no_hole: bool,
    /// Fail with [`ErrorKind::Unsupported`], immediately and without any change, if zeroing would not be
    /// faster than writing zeroes.
    pub fast: bool,
}

impl Zeroing {
    /// What happens to the space. `discards` says whether space may be freed at all.
    #[must_use]
    pub fn space(self, discards: bool) -> Space {
        match (self.no_hole, discards) {
            (true, _) => Space::Allocate,
            (false, true) => Space::Free,
            (false, false) => Space::Keep,
        }
    }
}

/// A disk that is served. All ranges lie within its size. A read-only disk never gets a write.
///
/// Requests are started in the order in which they arrive, and run concurrently. Dropping the future of one
/// request must not lose what was acknowledged before.
pub trait Export: Send + Sync + 'static {
    /// The properties as clients see them. Called in the handshake of each client.
    fn info(&self) -> ExportInfo;

    /// Fills `buf` from `offset` (bytes) and returns it.
    fn read(&self, buf: IoBufMut, offset: u64) -> impl Future<Output = Result<IoBufMut>> + Send;

    /// Writes `buf` at `offset` (bytes). The data is durable after the next [`Export::flush`].
    fn write(&self, buf: Bytes, offset: u64) -> impl Future<Output = Result<()>> + Send;

    /// Makes completed writes of all connections durable.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// Makes `length` bytes from `offset` (bytes) read as zeroes.
    fn write_zeroes(&self, offset: u64, length: u64, how: Zeroing) -> impl Future<Output = Result<()>> + Send;

    /// Discards `length` bytes from `offset` (bytes), or any part of them, or nothing.
    fn trim(&self, offset: u64, length: u64) -> impl Future<Output = Result<()>> + Send;

    /// Prepares for reads of `length` bytes from `offset` (bytes), or does nothing.
    fn cache(&self, offset: u64, length: u64) -> impl Future<Output = Result<()>> + Send;

    /// Reports the status of the range that starts at `offset` (bytes), piece by piece. Calls `piece` with
    /// the length in bytes and the status of each piece, until it returns false or `length` bytes (at least
    /// 1) are covered. Reports at least one piece. May cover fewer bytes than `length`.
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
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self {
            by_name: BTreeMap::new(),
        }
    }

    /// Adds a disk under the name in its properties.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if the protocol cannot express the properties of the disk
    /// ([`ExportInfo::check`]), or the name is already in use.
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

    /// The disk that clients open as `name`. If there is only one disk, it is also the default export "".
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

/// The reply to an error of the engine. The message does not contain paths of the server.
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
