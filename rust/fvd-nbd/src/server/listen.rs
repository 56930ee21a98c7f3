//! The server: accepts connections and runs a conversation on each.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{Instrument as _, debug_span, info};

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
use crate::protocol::handshake::TlsPolicy;

/// The pause between two attempts to accept while the system has no descriptor or memory left.
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
    /// A server without listeners, with the default [`Sharing`], that runs until it is shut down. `report` is
    /// called for every connection that ended with an error. It must not block.
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

    /// Sets the limits on sharing. Must be called before the server listens.
    #[must_use]
    pub fn with_sharing(mut self, sharing: Sharing) -> Self {
        let counters = Arc::clone(&self.shared.counters);
        // All clients that may share the server must also pass the limit on connections.
        let connections = self.shared.limits.connections.max(sharing.shared);
        self.clients = Arc::new(Clients::new(sharing, connections, counters, self.phases.clone()));
        self
    }

    /// Adds TLS, optional or required. Must be called before the server listens.
    ///
    /// # Panics
    ///
    /// If there are connections already.
    #[must_use]
    pub fn with_tls(mut self, credentials: Credentials, policy: TlsPolicy) -> Self {
        let shared = Arc::get_mut(&mut self.shared).expect("there are no connections yet");
        shared.tls = Some((credentials, policy));
        self
    }

    /// The counters of the server.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// Shuts the server down: it accepts no new connection and no new request. Requests in flight are
    /// completed and answered, within [`Limits::drain_timeout`]. Then [`Server::listen`] returns.
    pub fn shut_down(&self) {
        advance(&self.phases, Phase::Ending);
    }

    /// Closes all connections at once. Requests in flight are dropped, as in a power cut. What was
    /// acknowledged stays.
    pub fn abort(&self) {
        advance(&self.phases, Phase::Aborted);
    }

    /// Completes when the server no longer serves: after a shutdown or an abort or, if it is not persistent,
    /// when its last client has left.
    pub async fn ended(&self) {
        reached(&mut self.phases.subscribe(), Phase::Ending).await;
    }

    /// Accepts connections until [`Server::shut_down`], and returns when the last connection has ended. May
    /// be called concurrently for several listeners.
    pub async fn listen(&self, listener: Listener) {
        let mut phases = self.phases.subscribe();
        let mut tasks = JoinSet::new();
        while let Some(accepted) = until(&mut phases, Phase::Ending, self.accept(&listener)).await {
            match accepted {
                Ok((stream, permit)) => self.spawn(stream, permit, &mut tasks),
                Err(error) => {
                    info!(%error, "no client can be accepted: tried again in {RETRY:?}");
                    sleep(RETRY).await;
                }
            }
            while tasks.try_join_next().is_some() {}
        }
        drop(listener);
        let all = async { while tasks.join_next().await.is_some() {} };
        if until(&mut phases, Phase::Aborted, all).await.is_none() {
            tasks.shutdown().await;
        }
    }

    /// Waits for the next client. Also returns its permit.
    async fn accept(&self, listener: &Listener) -> io::Result<(Stream, OwnedSemaphorePermit)> {
        loop {
            let mut room = pin!(self.clients.room());
            let accepted = poll_fn(|context| match self.clients.try_accept() {
                Some(permit) => listener
                    .poll_accept(context)
                    .map(|stream| Some(stream.map(|stream| (stream, permit)))),
                None => room.as_mut().poll(context).map(|()| None),
            });
            if let Some(accepted) = accepted.await {
                return accepted;
            }
        }
    }

    /// Serves one client on a new task. Closes the connection if there are too many.
    fn spawn(&self, stream: Stream, permit: OwnedSemaphorePermit, tasks: &mut JoinSet<()>) {
        let Some(conversation) = self.admit(permit) else {
            return;
        };
        tasks.spawn(async move {
            match stream {
                Stream::Tcp(socket) => conversation.run(CloseOnForkSocket::new(socket)).await,
                Stream::Unix(socket) => conversation.run(CloseOnForkSocket::new(socket)).await,
            }
        });
    }

    /// Serves one client on a connected socket until the connection ends, under the same limits as an
    /// accepted one.
    pub async fn serve<S: Socket>(&self, socket: S) {
        let permit = loop {
            match self.clients.try_accept() {
                Some(permit) => break permit,
                None => self.clients.room().await,
            }
        };
        if let Some(conversation) = self.admit(permit) {
            let mut phases = self.phases.subscribe();
            until(&mut phases, Phase::Aborted, conversation.run(socket)).await;
        }
    }

    fn admit(&self, permit: OwnedSemaphorePermit) -> Option<Conversation<E>> {
        let client = self.clients.admit(permit)?;
        Some(Conversation {
            client,
            shared: Arc::clone(&self.shared),
            report: Arc::clone(&self.report),
            phases: self.phases.subscribe(),
        })
    }
}

/// The conversation with one admitted client.
struct Conversation<E> {
    client: Client,
    shared: Arc<Shared<E>>,
    report: Report,
    phases: watch::Receiver<Phase>,
}

impl<E: Export> Conversation<E> {
    async fn run<S: Socket>(self, socket: S) {
        let around = ConnectionContext {
            client: &self.client,
            shared: &self.shared,
            phases: self.phases,
            deadline: Instant::now() + self.shared.limits.handshake,
        };
        let counters = &self.shared.counters;
        let span = debug_span!("connection", number = counters.connections().total);
        async {
            if let Err(error) = converse(socket, around).await {
                add(&counters.failed, 1);
                (self.report)(&error);
            }
        }
        .instrument(span)
        .await;
    }
}
