//! The sockets on which clients connect.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use fvd::process::CloseOnFork;
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

mod inherited;
mod path;

use path::OwnSocket;

/// The idle time after which the kernel sends the first keep-alive probe.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// The interval between keep-alive probes. After [`KEEP_ALIVE_COUNT`] unanswered probes the connection counts
/// as lost.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEP_ALIVE_COUNT: u32 = 4;

/// A listening TCP or Unix socket.
#[derive(Debug)]
pub struct Listener {
    /// Declared before the socket: see [`CloseOnFork`].
    _descriptor: CloseOnFork,
    socket: Socket,
    /// The path of a socket that this listener created. It is removed with the listener.
    own: Option<OwnSocket>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The connection of an accepted client.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Listens on `address`. Port 0 selects a free port.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(Socket::Tcp(TcpListener::bind(address).await?)))
    }

    /// Creates a Unix socket at `path` and listens on it. A stale socket, on which no process listens, is
    /// replaced. Anything else at `path` is an error. The socket is removed with the listener.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let (listener, own) = path::bind(path)?;
        let listener = Self::new(Socket::Unix(UnixListener::from_std(listener)?));
        Ok(Self {
            own: Some(own),
            ..listener
        })
    }

    /// Uses a socket that is already listening. Its path, if it has one, is not removed.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if `fd` is not a listening TCP or Unix stream socket.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if !sockopt::socket_acceptconn(&fd).is_ok_and(|listens| listens)
            || sockopt::socket_type(&fd)? != SocketType::STREAM
        {
            return refuse("the file descriptor is no stream socket that listens");
        }
        rustix::fs::fcntl_setfl(&fd, rustix::fs::fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Self::new(match sockopt::socket_domain(&fd)? {
            AddressFamily::INET | AddressFamily::INET6 => Socket::Tcp(TcpListener::from_std(fd.into())?),
            AddressFamily::UNIX => Socket::Unix(UnixListener::from_std(StdUnixListener::from(fd))?),
            _ => return refuse("the socket is neither TCP nor Unix"),
        }))
    }

    fn new(socket: Socket) -> Self {
        let descriptor = match &socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
        };
        Self {
            _descriptor: CloseOnFork::new(descriptor),
            socket,
            own: None,
        }
    }

    /// The folder of the socket, if the socket was created without the lock that keeps two servers from
    /// replacing each other's socket: another process held the lock for too long, or the folder cannot be
    /// read.
    #[must_use]
    pub fn unlocked_folder(&self) -> Option<&Path> {
        self.own.as_ref()?.unlocked.as_deref()
    }

    /// The address of a TCP listener. If it was bound to port 0, it has the selected port.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// The path of a Unix socket, if it has one.
    #[must_use]
    pub fn unix_path(&self) -> Option<PathBuf> {
        match &self.socket {
            Socket::Tcp(_) => None,
            Socket::Unix(listener) => listener.local_addr().ok()?.as_pathname().map(Path::to_owned),
        }
    }

    pub(super) fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        match &self.socket {
            Socket::Tcp(listener) => listener
                .poll_accept(context)
                .map_ok(|(stream, _)| Stream::Tcp(prepare(stream))),
            Socket::Unix(listener) => listener.poll_accept(context).map_ok(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// Sets socket options. Errors are ignored: they mean that the client is gone, which the first read reports.
fn prepare(stream: TcpStream) -> TcpStream {
    // The server gathers replies itself, so Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    // A crashed machine closes no connection. Without probes, idle connections to it would stay for ever.
    let socket = stream.as_fd();
    let _ = sockopt::set_tcp_keepidle(socket, KEEP_ALIVE);
    let _ = sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(socket, KEEP_ALIVE_COUNT);
    let _ = sockopt::set_socket_keepalive(socket, true);
    stream
}
