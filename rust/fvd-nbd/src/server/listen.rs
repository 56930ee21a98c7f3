//! Listening, and what surrounds a connection.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::budget::Budget;
use super::connection::{Connection, ConnectionError};
use super::export::{Export, Exports};
use super::input::Input;
use super::negotiate::negotiate;
use super::{Limits, Shared};

/// Between two attempts to accept while the system has no descriptor or memory left.
const RETRY: Duration = Duration::from_millis(100);

/// Where clients connect.
#[derive(Debug)]
pub enum Listener {
    /// Over a network.
    Tcp(TcpListener),
    /// On this machine.
    Unix(UnixListener),
}

impl Listener {
    /// Listens on `address`; port 0 takes one that is free.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::Tcp)
    }

    /// Listens on a socket that is made at `path`, where nothing may be yet.
    pub fn unix(path: &Path) -> io::Result<Self> {
        UnixListener::bind(path).map(Self::Unix)
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Replies are gathered here; the kernel need not wait for more.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Serves exports on any number of sockets.
pub struct Server<E> {
    shared: Arc<Shared<E>>,
    connections: Arc<Semaphore>,
    report: Arc<dyn Fn(&ConnectionError) + Send + Sync>,
    stop: watch::Sender<bool>,
}

impl<E: Export> Server<E> {
    /// A server that listens nowhere yet. `report` hears of every connection that ended as nobody
    /// meant it to.
    pub fn new(exports: Exports<E>, limits: Limits, report: impl Fn(&ConnectionError) + Send + Sync + 'static) -> Self {
        let shared = Shared {
            exports: Arc::new(exports),
            limits,
            budget: Budget::new(limits.memory),
        };
        Self {
            shared: Arc::new(shared),
            connections: Arc::new(Semaphore::new(limits.connections)),
            report: Arc::new(report),
            stop: watch::Sender::new(false),
        }
    }

    /// No new connection, no new request; what is under way ends, and [`Server::listen`] after it.
    pub fn shut_down(&self) {
        self.stop.send_replace(true);
    }

    /// Accepts connections until [`Server::shut_down`], and returns when the last one has ended.
    pub async fn listen(&self, listener: Listener) {
        let mut stopped = self.stop.subscribe();
        let mut tasks = JoinSet::new();
        loop {
            match until(&mut stopped, listener.accept()).await {
                None => break,
                Some(Ok(stream)) => self.spawn(stream, &mut tasks),
                Some(Err(_)) => sleep(RETRY).await,
            }
            while tasks.try_join_next().is_some() {}
        }
        drop(listener);
        while tasks.join_next().await.is_some() {}
    }

    /// Serves one client on a task; hangs up if there are too many.
    fn spawn(&self, stream: Stream, tasks: &mut JoinSet<()>) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let report = Arc::clone(&self.report);
        let stop = self.stop.subscribe();
        tasks.spawn(async move {
            let ended = match stream {
                Stream::Tcp(socket) => converse(socket, shared, stop).await,
                Stream::Unix(socket) => converse(socket, shared, stop).await,
            };
            if let Err(error) = ended {
                report(&error);
            }
            drop(permit);
        });
    }
}

/// What `work` gives; None if the server stops before.
async fn until<T>(stop: &mut watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    let mut stop = pin!(stop.wait_for(|stop| *stop));
    let mut work = pin!(work);
    poll_fn(|context| {
        if stop.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}

/// One client, from the greeting to the end.
async fn converse<S: AsyncRead + AsyncWrite + Unpin, E: Export>(
    mut socket: S,
    shared: Arc<Shared<E>>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    let mut input = Input::new();
    let handshake = negotiate(&mut socket, &mut input, &*shared.exports);
    let handshake = until(&mut stop, timeout(shared.limits.handshake, handshake)).await;
    let session = match handshake {
        None | Some(Ok(Ok(None))) => return Ok(()),
        Some(Ok(Ok(Some(session)))) => session,
        Some(Ok(Err(error))) => return Err(error),
        Some(Err(_)) => return Err(ConnectionError::Deadline("to end the handshake")),
    };
    let Some(export) = shared.exports.get(&session.export.name) else {
        return Err(ConnectionError::NoExport(session.export.name));
    };
    let connection = Connection {
        socket,
        input,
        export: Arc::clone(export),
        session: Arc::new(session),
        shared,
    };
    let stopped = Box::pin(async move {
        // An error says that the server is gone: that is a shutdown, too.
        let _ = stop.wait_for(|stop| *stop).await;
    });
    connection.run(stopped).await
}
