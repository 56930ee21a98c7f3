//! The receive buffer of a connection.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, ReadBuf};

use super::connection::PollResult;

/// The size of one read of the socket in bytes: two thousand requests, or a dozen short writes.
const LENGTH: usize = 64 * 1024;

/// Bytes that were read from the socket and not consumed yet.
#[derive(Debug)]
pub(super) struct Input {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; LENGTH].into(),
            start: 0,
            end: 0,
        }
    }

    /// The bytes that were not consumed yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "no more than there is");
    }

    /// Copies buffered bytes to `target`, as many as fit, and consumes them. Returns their number.
    pub(super) fn move_to(&mut self, target: &mut [u8]) -> usize {
        let count = target.len().min(self.end - self.start);
        target[..count].copy_from_slice(&self.bytes()[..count]);
        self.consume(count);
        count
    }

    /// Reads from `socket` directly, not through the runtime. The buffer must be empty. The runtime later
    /// sees a readiness event for data that is already consumed.
    pub(super) fn try_fill(&mut self, socket: BorrowedFd<'_>) -> Result<PollResult, Errno> {
        debug_assert!(self.start == self.end, "nothing is left");
        match recv(socket, &mut *self.buffer, RecvFlags::DONTWAIT) {
            Ok((count @ 1.., _)) => {
                (self.start, self.end) = (0, count);
                Ok(PollResult::Something)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(PollResult::Nothing),
            Ok(_) => Ok(PollResult::End),
            // The kernel reports a socket error only once: a later read by the runtime would see the end of
            // the stream instead.
            Err(error) => Err(error),
        }
    }

    /// Reads more bytes and appends them. The buffer must not be full. Returns 0 if the client sends no more.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start.., 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        debug_assert!(self.end < self.buffer.len(), "there is room");
        let count = ready!(poll_read(socket, context, &mut self.buffer[self.end..]))?;
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

/// Reads into `target`, which must not be empty. Returns 0 if the client sends no more.
pub(super) fn poll_read<S: AsyncRead + Unpin>(
    socket: &mut S,
    context: &mut Context<'_>,
    target: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut target = ReadBuf::new(target);
    ready!(Pin::new(socket).poll_read(context, &mut target))?;
    Poll::Ready(Ok(target.filled().len()))
}
