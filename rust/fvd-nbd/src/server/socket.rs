//! What connections are made of.

use std::os::fd::{AsFd, BorrowedFd};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpStream, UnixStream};

/// A stream of bytes to and from a client.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// The socket of the system, where what is read from it is what the client has sent.
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

/// A client in the same process.
impl Socket for DuplexStream {}
