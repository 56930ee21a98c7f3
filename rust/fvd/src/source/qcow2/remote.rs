//! Reads of a chain with remote files, for hosts that must not block.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::Qcow2Source;
use crate::aio::{CloseGuard, Opened, Remains, Threaded};
use crate::error::Result;
use crate::join::join_all;
use crate::remote::RemoteStorage;
use crate::source::delegate::delegate_to_inner;
use crate::source::{BaseSource, BoxFuture, Run};
use crate::storage::{IoBufMut, Storage as _};

/// The most lookups of one chain at once.
const THREADS: usize = 16;

/// A read whose places are known.
#[derive(Default)]
pub(super) struct Begun {
    /// In the order of the buffer.
    pieces: Vec<Piece>,
}

enum Piece {
    Filled(IoBufMut),
    /// Plain bytes, at this offset of a remote file.
    Remote(IoBufMut, RemoteStorage, u64),
}

impl Begun {
    /// Adds a filled piece after all others.
    pub(super) fn add(&mut self, buf: IoBufMut) {
        match self.pieces.pop() {
            Some(Piece::Filled(last)) => self.pieces.push(Piece::Filled(last.join(buf))),
            last => {
                self.pieces.extend(last);
                self.pieces.push(Piece::Filled(buf));
            }
        }
    }

    /// Adds a piece that is still to be read.
    pub(super) fn add_remote(&mut self, buf: IoBufMut, file: &RemoteStorage, offset: u64) {
        self.pieces.push(Piece::Remote(buf, file.clone(), offset));
    }

    /// Reads what is left, all of it at once, and returns the whole buffer.
    pub(super) async fn finish(self) -> Result<IoBufMut> {
        let mut read: Vec<Option<Result<IoBufMut>>> = Vec::new();
        read.resize_with(self.pieces.len(), || None);
        let reads = self
            .pieces
            .into_iter()
            .zip(&mut read)
            .filter_map(|(piece, read)| match piece {
                Piece::Filled(buf) => {
                    *read = Some(Ok(buf));
                    None
                }
                Piece::Remote(buf, file, offset) => Some(into(read, async move { file.read(buf, offset).await })),
            });
        join_all(reads.collect()).await;
        let mut whole = None::<IoBufMut>;
        for buf in read.into_iter().flatten() {
            whole = Some(match whole {
                None => buf?,
                Some(whole) => whole.join(buf?),
            });
        }
        Ok(whole.expect("a read has a piece, if only an empty one"))
    }
}

/// Stores the result of `read` in `result`.
fn into<'a, T: Send>(
    result: &'a mut Option<T>,
    read: impl Future<Output = T> + Send + 'a,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(async move { *result = Some(read.await) })
}

/// A chain with remote files. Lookups, and what is compressed or in local files, run on threads, because they
/// may block. Plain bytes in remote files are awaited, so any number of reads of them need no thread.
pub struct RemoteQcow2 {
    source: Threaded<Opened<Qcow2Source>>,
    /// Last, so that it is dropped last: it closes the source, which may also block.
    close_guard: CloseGuard<Qcow2Source>,
}

impl RemoteQcow2 {
    /// A chain for a host that must not block.
    #[must_use]
    pub fn new(source: Qcow2Source) -> Self {
        let (source, close_guard) = CloseGuard::of(source, false, |_| ());
        Self {
            source: Threaded::new(source, THREADS),
            close_guard,
        }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Qcow2Source) -> Result<T> + Send + 'static) -> Result<T> {
        let done = self
            .source
            .run(async move |source: &Opened<Qcow2Source>| work(source))
            .await;
        done.map_err(|error| error.with_path(self.path()))
    }

    async fn read_split(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let begun = self.run(move |source| source.begin_read(buf, offset)).await?;
        begun.finish().await
    }
}

impl Drop for RemoteQcow2 {
    fn drop(&mut self) {
        // This and its close guard each have a reference. Any others belong to reads.
        if Arc::strong_count(self.source.value()) > 2 {
            self.close_guard.remains = Remains::Reads;
        }
    }
}

impl BaseSource for RemoteQcow2 {
    delegate_to_inner!(source.value());

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(self.read_split(buf, offset))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(self.run(move |source| source.status_now(offset, len)))
    }
}
