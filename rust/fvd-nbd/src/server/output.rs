//! Replies on their way out: gathered, then written with as few system calls as possible.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::budget::Grant;

/// Data up to this many bytes is copied into the gathered replies.
const COPIED: usize = 16 * 1024;

/// Pieces of one vectored write.
const PIECES: usize = 64;

/// Bytes from which no request is begun any more until the client has taken some.
const ENOUGH: usize = 1 << 20;

/// What the client has not been sent yet.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Sent before `gathered`.
    pieces: VecDeque<(Bytes, Option<Grant>)>,
    /// Bytes of the first piece that are sent.
    sent: usize,
    /// Headers and short data.
    gathered: Vec<u8>,
    /// Bytes of all.
    length: usize,
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether the client should read before it gets more.
    pub(super) fn is_full(&self) -> bool {
        self.length >= ENOUGH
    }

    /// Appends what `write` appends.
    pub(super) fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.gathered.len();
        write(&mut self.gathered);
        self.length += self.gathered.len() - before;
    }

    /// Appends data; the grant for its memory is given back when that is free.
    pub(super) fn put_data(&mut self, data: impl AsRef<[u8]> + Send + 'static, grant: Option<Grant>) {
        let bytes = data.as_ref();
        if bytes.len() <= COPIED {
            return self.put(|out| out.extend_from_slice(bytes));
        }
        self.close_gathered();
        self.length += bytes.len();
        self.pieces.push_back((Bytes::from_owner(data), grant));
    }

    fn close_gathered(&mut self) {
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            self.pieces.push_back((gathered.into(), None));
        }
    }

    /// Writes until all is sent or the socket takes no more.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = ready!(self.poll_write_once(socket, context))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_once<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.pieces.is_empty() {
            return Pin::new(socket).poll_write(context, &self.gathered[self.sent..]);
        }
        self.close_gathered();
        let mut slices = [IoSlice::new(&[]); PIECES];
        let count = self.pieces.len().min(PIECES);
        for (slice, (piece, _)) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        slices[0] = IoSlice::new(&self.pieces[0].0[self.sent..]);
        Pin::new(socket).poll_write_vectored(context, &slices[..count])
    }

    /// Forgets `written` bytes from the front.
    fn advance(&mut self, written: usize) {
        self.length -= written;
        self.sent += written;
        while let Some((piece, _)) = self.pieces.front() {
            if self.sent < piece.len() {
                return;
            }
            self.sent -= piece.len();
            self.pieces.pop_front();
        }
        if self.sent == self.gathered.len() {
            // Keeps its memory for the next replies.
            self.gathered.clear();
            self.sent = 0;
        } else if self.sent >= ENOUGH {
            self.gathered.drain(..self.sent);
            self.sent = 0;
        }
    }
}
