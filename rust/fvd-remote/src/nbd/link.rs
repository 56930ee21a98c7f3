//! One connection. Requests go out as they come, and answers come back in any order.

use std::sync::Arc;
use std::time::Duration;

use fvd_nbd::protocol::client::fault::RequestFault;
use fvd_nbd::protocol::client::handshake::Opened;
use fvd_nbd::protocol::client::reply::Answer;
use fvd_nbd::protocol::client::request;
use tokio::select;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, yield_now};

use super::wire::{Reply, Shared, drive};
use crate::fetch::StoreState;
use crate::transport::{Failure, FailureKind, Stream};

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

/// An answer that will come. It closes if the connection fails.
pub(super) type Pending = oneshot::Receiver<Reply>;

/// A connection whose export is open. When it is dropped, the server is told so.
pub(super) struct Link {
    pub(super) opened: Opened,
    store: Arc<StoreState>,
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Link {
    /// Only on the I/O thread.
    pub(super) fn start(stream: Box<dyn Stream>, opened: Opened, store: Arc<StoreState>) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(opened.structured, opened.allocation, sender));
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
