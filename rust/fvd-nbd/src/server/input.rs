//! What the client has sent, as it arrives.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, ReadBuf};

use super::connection::PollResult;

/// Bytes of one read of the socket: two thousand requests, or a dozen short writes.
const LENGTH: usize = 64 * 1024;

/// A buffer in front of the socket.
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

    /// What has arrived and was not consumed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "no more than there is");
    }

    /// Moves as many bytes as are there, and fit, to `target`; tells how many.
    pub(super) fn move_to(&mut self, target: &mut [u8]) -> usize {
        let count = target.len().min(self.end - self.start);
        target[..count].copy_from_slice(&self.bytes()[..count]);
        self.consume(count);
        count
    }

    /// Reads what has come since from `socket` itself, past the runtime: which learns of it in vain,
    /// later. With nothing left in here.
    pub(super) fn try_fill(&mut self, socket: BorrowedFd<'_>) -> Result<PollResult, Errno> {
        debug_assert!(self.start == self.end, "nothing is left");
        match recv(socket, &mut *self.buffer, RecvFlags::DONTWAIT) {
            Ok((count @ 1.., _)) => {
                (self.start, self.end) = (0, count);
                Ok(PollResult::Something)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(PollResult::Nothing),
            Ok(_) => Ok(PollResult::End),
            // The system tells it once: the runtime would take it for the end.
            Err(error) => Err(error),
        }
    }

    /// Reads more behind what is there, which is less than the buffer holds. 0: the client sends
    /// no more.
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

/// Reads to `target`, which is not empty. 0: the client sends no more.
pub(super) fn poll_read<S: AsyncRead + Unpin>(
    socket: &mut S,
    context: &mut Context<'_>,
    target: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut target = ReadBuf::new(target);
    ready!(Pin::new(socket).poll_read(context, &mut target))?;
    Poll::Ready(Ok(target.filled().len()))
}
