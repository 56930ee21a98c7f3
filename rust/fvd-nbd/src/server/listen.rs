//! From a listener to conversations.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::budget::Budget;
use super::clients::{Client, Clients, Sharing};
use super::connection::ConnectionError;
use super::converse::{ConnectionContext, converse};
use super::counters::{Counters, add};
use super::export::{Export, Exports};
use super::listener::{Listener, Stream};
use super::phase::{Phase, advance, reached, until};
use super::socket::{CloseOnForkSocket, Socket};
use super::tls::Credentials;
use super::{Limits, Shared};
use crate::handshake::TlsPolicy;

/// Between two attempts to accept while the system has no descriptor or memory left.
const RETRY: Duration = Duration::from_millis(100);

type Report = Arc<dyn Fn(&ConnectionError) + Send + Sync>;

/// Serves exports on any number of sockets.
pub struct Server<E> {
    shared: Arc<Shared<E>>,
    clients: Arc<Clients>,
    report: Report,
    phases: watch::Sender<Phase>,
}

impl<E: Export> Server<E> {
    /// A server that listens nowhere yet, for everybody, until it is shut down. `report` hears of
    /// every connection that ended as nobody meant it to.
    pub fn new(exports: Exports<E>, limits: Limits, report: impl Fn(&ConnectionError) + Send + Sync + 'static) -> Self {
        let phases = watch::Sender::new(Phase::Serving);
        let counters = Arc::new(Counters::default());
        let shared = Shared {
            exports,
            limits,
            budget: Budget::new(limits.memory),
            counters: Arc::clone(&counters),
            kept: Arc::default(),
            slots: Arc::default(),
            tls: None,
        };
        let clients = Clients::new(Sharing::default(), limits.connections, counters, phases.clone());
        Self {
            shared: Arc::new(shared),
            clients: Arc::new(clients),
            report: Arc::new(report),
            phases,
        }
    }

    /// The same server, shared as `sharing` says. Before it listens.
    #[must_use]
    pub fn with_sharing(mut self, sharing: Sharing) -> Self {
        let counters = Arc::clone(&self.shared.counters);
        // All who may share it are let in.
        let connections = self.shared.limits.connections.max(sharing.shared);
        self.clients = Arc::new(Clients::new(sharing, connections, counters, self.phases.clone()));
        self
    }

    /// The same server with TLS, for clients that ask or for all. Before it listens.
    #[must_use]
    pub fn with_tls(mut self, credentials: Credentials, policy: TlsPolicy) -> Self {
        let shared = Arc::get_mut(&mut self.shared).expect("there are no connections yet");
        shared.tls = Some((credentials, policy));
        self
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// No new connection, no new request; what is under way ends and is answered, within
    /// [`Limits::drain_timeout`], and [`Server::listen`] after it.
    pub fn shut_down(&self) {
        advance(&self.phases, Phase::Ending);
    }

    /// Hangs up on everybody at once. What is under way is dropped, as a power cut would: what was
    /// answered stays.
    pub fn abort(&self) {
        advance(&self.phases, Phase::Aborted);
    }

    /// Ready when the server does not serve any more: it was shut down, aborted, or, if it is not
    /// persistent, its last client has left.
    pub async fn ended(&self) {
        reached(&mut self.phases.subscribe(), Phase::Ending).await;
    }

    /// Accepts connections until [`Server::shut_down`], and returns when the last one has ended.
    /// Several listeners are listened to at once.
    pub async fn listen(&self, listener: Listener) {
        let mut phases = self.phases.subscribe();
        let mut tasks = JoinSet::new();
        while let Some(accepted) = until(&mut phases, Phase::Ending, self.accept(&listener)).await {
            match accepted {
                Ok((stream, leave)) => self.spawn(stream, leave, &mut tasks),
                Err(_) => sleep(RETRY).await,
            }
            while tasks.try_join_next().is_some() {}
        }
        drop(listener);
        let all = async { while tasks.join_next().await.is_some() {} };
        if until(&mut phases, Phase::Aborted, all).await.is_none() {
            tasks.shutdown().await;
        }
    }

    /// The next client, and its leave to be here.
    async fn accept(&self, listener: &Listener) -> io::Result<(Stream, OwnedSemaphorePermit)> {
        loop {
            let mut room = pin!(self.clients.room());
            let accepted = poll_fn(|context| match self.clients.try_accept() {
                Some(leave) => listener
                    .poll_accept(context)
                    .map(|stream| Some(stream.map(|stream| (stream, leave)))),
                None => room.as_mut().poll(context).map(|()| None),
            });
            if let Some(accepted) = accepted.await {
                return accepted;
            }
        }
    }

    /// Serves one client on a task; hangs up if there are too many.
    fn spawn(&self, stream: Stream, leave: OwnedSemaphorePermit, tasks: &mut JoinSet<()>) {
        let Some(talk) = self.admit(leave) else {
            return;
        };
        tasks.spawn(async move {
            match stream {
                Stream::Tcp(socket) => talk.run(CloseOnForkSocket::new(socket)).await,
                Stream::Unix(socket) => talk.run(CloseOnForkSocket::new(socket)).await,
            }
        });
    }

    /// Serves one client that is connected already, like one that was accepted, to its end.
    pub async fn serve<S: Socket>(&self, socket: S) {
        let leave = loop {
            match self.clients.try_accept() {
                Some(leave) => break leave,
                None => self.clients.room().await,
            }
        };
        if let Some(talk) = self.admit(leave) {
            let mut phases = self.phases.subscribe();
            until(&mut phases, Phase::Aborted, talk.run(socket)).await;
        }
    }

    fn admit(&self, leave: OwnedSemaphorePermit) -> Option<Talk<E>> {
        let client = self.clients.admit(leave)?;
        Some(Talk {
            client,
            shared: Arc::clone(&self.shared),
            report: Arc::clone(&self.report),
            phases: self.phases.subscribe(),
        })
    }
}

/// One client that was let in.
struct Talk<E> {
    client: Client,
    shared: Arc<Shared<E>>,
    report: Report,
    phases: watch::Receiver<Phase>,
}

impl<E: Export> Talk<E> {
    async fn run<S: Socket>(self, socket: S) {
        let around = ConnectionContext {
            client: &self.client,
            shared: &self.shared,
            phases: self.phases,
            deadline: Instant::now() + self.shared.limits.handshake,
        };
        if let Err(error) = converse(socket, around).await {
            add(&self.shared.counters.failed, 1);
            (self.report)(&error);
        }
    }
}
