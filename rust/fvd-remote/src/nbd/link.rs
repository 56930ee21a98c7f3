//! One connection. Requests go out as they come, and answers come back in any order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fvd_nbd::protocol::client::fault::{RequestFault, ServerFault};
use fvd_nbd::protocol::client::handshake::Opened;
use fvd_nbd::protocol::client::reply::{Answer, Replies};
use fvd_nbd::protocol::client::request;
use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::select;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, yield_now};

use crate::fetch::StoreState;
use crate::transport::{Failure, FailureKind, Stream};

/// Bytes that are read from the socket at once.
const READ: usize = 128 << 10;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Read,
    Status,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The connection has failed.
    Broken(Failure),
    /// The server answers with an error.
    Fault(RequestFault),
}

type Reply = Result<Answer, RequestFault>;

/// An answer that will come. It closes if the connection fails.
pub(super) type Pending = oneshot::Receiver<Reply>;

/// A connection whose export is open. When it is dropped, the server is told so.
pub(super) struct Link {
    pub(super) opened: Opened,
    store: Arc<StoreState>,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What the task of a connection shares with those who ask.
struct Shared(Mutex<State>);

struct State {
    replies: Replies,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    next: u64,
    /// When the last byte came, or the first request after a time without any was sent.
    progress: Duration,
    /// To the task. None: the connection has ended.
    requests: Option<UnboundedSender<Vec<u8>>>,
    failure: Option<Failure>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection has failed: nothing comes any more.
    fn fail(&self, failure: Failure) {
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

impl Link {
    /// Only on the I/O thread.
    pub(super) fn start(stream: Box<dyn Stream>, opened: Opened, store: Arc<StoreState>) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared(Mutex::new(State {
            replies: Replies::new(opened.structured, opened.allocation),
            waiting: HashMap::new(),
            next: 0,
            progress: Duration::ZERO,
            requests: Some(sender),
            failure: None,
        })));
        let task = tokio::spawn(drive(stream, Arc::clone(&shared), requests, Arc::clone(&store)));
        Self {
            opened,
            store,
            shared,
            task: task.abort_handle(),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.shared.lock().requests.is_some()
    }

    /// Requests under way.
    pub(super) fn load(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    /// Sends a request for `length` bytes (at least 1) from `offset`.
    pub(super) fn send(&self, ask: Ask, offset: u64, length: u32) -> Pending {
        let (sender, receiver) = oneshot::channel();
        let mut message = Vec::with_capacity(32);
        let mut state = self.shared.lock();
        if state.requests.is_none() {
            return receiver;
        }
        let cookie = state.next;
        state.next += 1;
        match ask {
            Ask::Read => {
                state.replies.expect_read(cookie, offset, length);
                request::read(&mut message, cookie, offset, length);
            }
            Ask::Status => {
                state.replies.expect_status(cookie, length);
                request::block_status(&mut message, cookie, offset, length);
            }
        }
        if state.waiting.is_empty() {
            state.progress = self.store.clock.now();
        }
        state.waiting.insert(cookie, sender);
        let requests = state.requests.clone();
        drop(state);
        if let Some(requests) = requests {
            // If the task has ended, the answer is known to fail.
            _ = requests.send(message);
        }
        receiver
    }

    /// Waits for an answer as long as the server sends anything.
    pub(super) async fn answer(&self, mut pending: Pending) -> Result<Answer, NoAnswer> {
        let limit = self.store.tuning.progress_timeout;
        loop {
            let silent = self.silent();
            select! {
                biased;
                answer = &mut pending => return match answer {
                    Ok(answer) => answer.map_err(NoAnswer::Fault),
                    Err(_) => Err(NoAnswer::Broken(self.failure())),
                },
                () = self.store.clock.sleep(limit.saturating_sub(silent)) => {}
            }
            // A process that was stopped: what has come meanwhile counts.
            yield_now().await;
            if self.silent() >= limit {
                let text = format!("the server has sent nothing for {:.1} s", limit.as_secs_f64());
                self.give_up(Failure::new(FailureKind::Silent, text));
            }
        }
    }

    /// Uses this connection no longer.
    pub(super) fn give_up(&self, failure: Failure) {
        self.shared.fail(failure);
        self.task.abort();
    }

    fn silent(&self) -> Duration {
        self.store.clock.now().saturating_sub(self.shared.lock().progress)
    }

    fn failure(&self) -> Failure {
        let known = self.shared.lock().failure.clone();
        known.unwrap_or_else(|| Failure::new(FailureKind::Broken, "the connection has ended"))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The task says good-bye to the server, and ends.
        self.shared.lock().requests = None;
    }
}

/// Reads and writes until one of them ends.
async fn drive(
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
