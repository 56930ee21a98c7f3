//! The send buffer of a connection: gathers replies and writes them with as few system calls as possible.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::budget::Grant;

/// Data up to this length in bytes is copied into the gathered replies.
const COPIED: usize = 16 * 1024;

/// The maximum number of slices in one vectored write.
const PIECES: usize = 64;

/// If this many bytes are unsent, no new request starts until the client has read some.
const HIGH_WATER: usize = 1 << 20;

/// The unsent replies.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Slices that are sent before `gathered`.
    pieces: VecDeque<(Bytes, Option<Grant>)>,
    /// The number of bytes that are already sent: of the first piece or, without pieces, of `gathered`.
    sent: usize,
    /// Headers and short data that were added last.
    gathered: Vec<u8>,
    /// The total number of unsent bytes.
    length: usize,
    /// The total number of bytes sent so far.
    sent_in_all: u64,
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether the client must read before more requests are started.
    pub(super) fn is_full(&self) -> bool {
        self.length >= HIGH_WATER
    }

    /// The total number of bytes sent so far.
    pub(super) fn sent_in_all(&self) -> u64 {
        self.sent_in_all
    }

    /// The total number of bytes added so far.
    pub(super) fn put_in_all(&self) -> u64 {
        self.sent_in_all + self.length as u64
    }

    /// Calls `write`, which appends to the gathered replies.
    pub(super) fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.gathered.len();
        write(&mut self.gathered);
        self.length += self.gathered.len() - before;
    }

    /// Appends data. `grant` is returned when the data has been sent or copied.
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

    /// Writes until everything is sent or the socket accepts no more.
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

    /// Removes `written` bytes from the front.
    fn advance(&mut self, written: usize) {
        self.length -= written;
        self.sent_in_all += written as u64;
        self.sent += written;
        while let Some((piece, _)) = self.pieces.front() {
            if self.sent < piece.len() {
                return;
            }
            self.sent -= piece.len();
            self.pieces.pop_front();
        }
        if self.sent == self.gathered.len() {
            // Keep the allocation for the next replies.
            self.gathered.clear();
            self.sent = 0;
        } else if self.sent >= HIGH_WATER {
            self.gathered.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::budget::Budget;
    use std::task::Waker;

    /// A socket that accepts at most `room` bytes.
    struct Slow {
        taken: Vec<u8>,
        room: usize,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Poll::Pending;
            }
            self.taken.extend_from_slice(&bytes[..count]);
            self.room -= count;
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn all_bytes_are_sent_in_order_by_partial_writes() {
        let mut rng = fastrand::Rng::with_seed(4);
        let mut context = Context::from_waker(Waker::noop());
        let mut output = Output::default();
        let mut expected = Vec::new();
        let (taken, room) = (Vec::new(), 0);
        let mut socket = Slow { taken, room };
        for round in 0..3000_u32 {
            let length = [0, 1, 100, COPIED, COPIED + 1, 3 * COPIED][rng.usize(..6)];
            let data = vec![round as u8; length];
            expected.extend_from_slice(&data);
            if rng.bool() {
                output.put(|out| out.extend_from_slice(&data));
            } else {
                output.put_data(data, None);
            }
            socket.room = rng.usize(..40_000);
            let sent = output.poll_write(&mut socket, &mut context);
            assert_eq!(sent.is_ready(), output.is_empty());
            assert!(
                output.gathered.len() <= output.length + HIGH_WATER,
                "what is sent is forgotten"
            );
        }
        socket.room = usize::MAX;
        assert!(output.poll_write(&mut socket, &mut context).is_ready());
        assert!(socket.taken == expected);
    }

    #[test]
    fn memory_of_long_data_is_returned_when_sent_of_short_at_once() {
        let budget = Budget::new(64 << 20);
        let mut output = Output::default();
        output.put_data(vec![1; COPIED], budget.try_take(1));
        output.put_data(vec![2; COPIED + 1], budget.try_take(4096));
        assert!(budget.try_take(64 << 20).is_none());
        assert!(budget.try_take((64 << 20) - 4096).is_some());
        let (taken, room) = (Vec::new(), usize::MAX);
        let mut context = Context::from_waker(Waker::noop());
        assert!(output.poll_write(&mut Slow { taken, room }, &mut context).is_ready());
        assert!(budget.try_take(64 << 20).is_some());
    }
}
