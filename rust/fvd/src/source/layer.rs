//! The base of an image, however many layers there are below it.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{BaseSource, BoxFuture, Run, WritableBase};
use crate::error::Result;
use crate::storage::{IoBufMut, Space};
use crate::sys::stack::with_room;

/// A source that may have others below it. To open, read, close and drop a chain goes down one stack, a
/// layer at a time; between two layers this sees to it that there is enough of it, on any thread.
pub struct Layer {
    /// None while it is dropped.
    source: Option<Box<dyn BaseSource>>,
}

impl Layer {
    /// Everything that is done with `source` is done with enough stack.
    #[must_use]
    pub fn new(source: Box<dyn BaseSource>) -> Self {
        Self { source: Some(source) }
    }

    fn source(&self) -> &dyn BaseSource {
        self.source.as_deref().expect("there is a source until it is dropped")
    }

    fn target(&self) -> &dyn WritableBase {
        let target = self.source().writable();
        target.expect("writable() has said that it is")
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        with_room(|| self.source = None);
    }
}

impl BaseSource for Layer {
    fn path(&self) -> &Path {
        self.source().path()
    }

    fn format(&self) -> &'static str {
        self.source().format()
    }

    fn len(&self) -> u64 {
        self.source().len()
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        deep(|| self.source().read(buf, offset))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        deep(|| self.source().status(offset, len))
    }

    fn writable(&self) -> Option<&dyn WritableBase> {
        self.source().writable().map(|_| self as _)
    }
}

impl WritableBase for Layer {
    fn prepare(&self, size: u64) -> BoxFuture<'_, Result<()>> {
        deep(|| self.target().prepare(size))
    }

    fn write(&self, buf: Bytes, offset: u64) -> BoxFuture<'_, Result<()>> {
        deep(|| self.target().write(buf, offset))
    }

    fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> BoxFuture<'_, Result<()>> {
        deep(|| self.target().write_zeroes(offset, len, space))
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        deep(|| self.target().sync())
    }

    fn sync_leftovers(&self) -> BoxFuture<'_, Result<()>> {
        deep(|| self.target().sync_leftovers())
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        deep(|| self.target().close())
    }
}

/// The future that `begin` makes, which goes on below: begun, polled and dropped with enough stack.
pub(crate) fn deep<'a, T: 'a>(begin: impl FnOnce() -> BoxFuture<'a, T>) -> BoxFuture<'a, T> {
    Box::pin(Deep(Some(with_room(begin))))
}

/// None once it is dropped.
struct Deep<'a, T>(Option<BoxFuture<'a, T>>);

impl<T> Future for Deep<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let below = self.0.as_mut().expect("it is not dropped");
        with_room(|| below.as_mut().poll(context))
    }
}

impl<T> Drop for Deep<'_, T> {
    fn drop(&mut self) {
        with_room(|| self.0 = None);
    }
}
