//! The task of a connection: bytes from and to the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fvd_nbd::protocol::client::fault::{RequestFault, ServerFault};
use fvd_nbd::protocol::client::reply::{Answer, Replies};
use fvd_nbd::protocol::client::request;
use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::select;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::fetch::StoreState;
use crate::transport::{Failure, FailureKind, Stream};

/// Bytes that are read from the socket at once.
const READ: usize = 128 << 10;

/// The answer of the server to a request.
pub(super) type Reply = Result<Answer, RequestFault>;

/// What the task of a connection shares with those who ask.
pub(super) struct Shared(Mutex<State>);

pub(super) struct State {
    pub(super) replies: Replies,
    pub(super) waiting: HashMap<u64, oneshot::Sender<Reply>>,
    pub(super) next: u64,
    /// When the last byte came, or the first request after a time without any was sent.
    pub(super) progress: Duration,
    /// To the task. None: the connection has ended.
    pub(super) requests: Option<UnboundedSender<Vec<u8>>>,
    pub(super) failure: Option<Failure>,
}

impl Shared {
    /// For a connection with or without structured replies. `context`: the id of `base:allocation`.
    pub(super) fn new(structured: bool, context: Option<u32>, requests: UnboundedSender<Vec<u8>>) -> Self {
        Self(Mutex::new(State {
            replies: Replies::new(structured, context),
            waiting: HashMap::new(),
            next: 0,
            progress: Duration::ZERO,
            requests: Some(requests),
            failure: None,
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection has failed: nothing comes any more.
    pub(super) fn fail(&self, failure: Failure) {
        let mut state = self.lock();
        state.requests = None;
        state.failure.get_or_insert(failure);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    /// Takes bytes of the server, and gives answers to those who wait for them.
    fn receive(&self, mut input: &[u8], now: Duration) -> Result<(), ServerFault> {
        let mut answered = Vec::new();
        let mut state = self.lock();
        state.progress = now;
        let taken = loop {
            match state.replies.feed(&mut input) {
                Ok(Some(done)) => answered.extend(state.waiting.remove(&done.cookie).zip(Some(done.result))),
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        drop(state);
        for (sender, result) in answered {
            // A reader that has gone needs no answer.
            _ = sender.send(result);
        }
        taken
    }
}

/// Reads and writes until one of them ends.
pub(super) async fn drive(
    stream: Box<dyn Stream>,
    shared: Arc<Shared>,
    requests: UnboundedReceiver<Vec<u8>>,
    store: Arc<StoreState>,
) {
    let (from, to) = io::split(stream);
    let failure = select! {
        failure = receive(from, &shared, &store) => failure,
        failure = send(to, requests) => failure,
    };
    shared.fail(failure);
}

async fn receive(mut from: impl AsyncRead + Unpin, shared: &Shared, store: &StoreState) -> Failure {
    let mut buffer = vec![0; READ];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return Failure::new(FailureKind::Broken, "the server closed the connection"),
            Ok(count) => {
                if let Err(fault) = shared.receive(&buffer[..count], store.clock.now()) {
                    return Failure::new(FailureKind::Broken, fault.to_string());
                }
            }
            Err(error) => return Failure::caused(FailureKind::Broken, "the connection broke", &error),
        }
    }
}

async fn send(mut to: impl AsyncWrite + Unpin, mut requests: UnboundedReceiver<Vec<u8>>) -> Failure {
    loop {
        let next = requests.recv().await;
        let is_end = next.is_none();
        let mut bytes = next.unwrap_or_default();
        if is_end {
            request::disconnect(&mut bytes);
        }
        while let Ok(more) = requests.try_recv() {
            bytes.extend(more);
        }
        let written = async {
            to.write_all(&bytes).await?;
            to.flush().await
        };
        match written.await {
            Ok(()) if is_end => return Failure::new(FailureKind::Broken, "the connection is not needed any more"),
            Ok(()) => {}
            Err(error) => return Failure::caused(FailureKind::Broken, "the connection broke", &error),
        }
    }
}
