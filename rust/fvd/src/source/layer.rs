//! The base of an image, with any number of layers below it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::delegate::delegate_to_inner;
use super::{BaseSource, BoxFuture, Run, WritableBase};
use crate::error::Result;
use crate::storage::{IoBufMut, Space};
use crate::sys::stack::with_room;

/// A source that may have other sources below it. Opening, reading, closing and dropping a chain recurse on
/// the stack, layer by layer. This type ensures between two layers that any thread has enough stack.
pub struct Layer {
    /// None during drop.
    source: Option<Box<dyn BaseSource>>,
}

impl Layer {
    /// Wraps `source`: all its calls run with enough stack.
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
    delegate_to_inner!(source());

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

/// Wraps the future that `begin` returns: it begins, is polled and is dropped with enough stack.
pub(crate) fn deep<'a, T: 'a>(begin: impl FnOnce() -> BoxFuture<'a, T>) -> BoxFuture<'a, T> {
    Box::pin(Deep(Some(with_room(begin))))
}

/// None during drop.
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
