//! The sockets that the server can use.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use fvd::process::CloseOnFork;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A byte stream to and from a client.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// The kernel socket, if reading it directly yields the bytes that the client has sent. None under TLS.
    fn plain(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Socket for TcpStream {
    fn plain(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

impl Socket for UnixStream {
    fn plain(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// A socket that forked children do not keep open (docs/design/async-io.md, F4). Otherwise a client would not
/// notice the end of the server while a child lives.
pub(super) struct CloseOnForkSocket<S> {
    /// Declared before the socket: see [`CloseOnFork`].
    _descriptor: CloseOnFork,
    socket: S,
}

impl<S: AsFd> CloseOnForkSocket<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            _descriptor: CloseOnFork::new(socket.as_fd()),
            socket,
        }
    }
}

impl<S: Socket> Socket for CloseOnForkSocket<S> {
    fn plain(&self) -> Option<BorrowedFd<'_>> {
        self.socket.plain()
    }
}

impl<S: Socket> AsyncRead for CloseOnForkSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buf)
    }
}

impl<S: Socket> AsyncWrite for CloseOnForkSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// A client in the same process, for tests.
impl Socket for DuplexStream {}
