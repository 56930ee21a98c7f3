//! The requests of a connection that had to wait.

use std::future::Future;
use std::task::{Context, Poll};

use fvd::aio::How;
use tokio::task::{JoinError, JoinSet};

use super::timing::Begun;
use crate::protocol::request::Command;
use crate::server::serve::Answer;

/// A request that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) answer: Answer,
    pub(super) how: How,
    pub(super) begun: Begun,
}

/// Requests that change the disk, and requests that can be dropped at any time.
#[derive(Default)]
pub(super) struct Running {
    changes: JoinSet<Ended>,
    reads: JoinSet<Ended>,
}

impl Running {
    pub(super) fn len(&self) -> usize {
        self.changes.len() + self.reads.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn spawn(&mut self, changes: bool, request: impl Future<Output = Ended> + Send + 'static) {
        let tasks = if changes { &mut self.changes } else { &mut self.reads };
        tasks.spawn(request);
    }

    /// The next request that has ended. None if there are no requests.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Ended, JoinError>>> {
        for tasks in [&mut self.changes, &mut self.reads] {
            if let Poll::Ready(Some(ended)) = tasks.poll_join_next(context) {
                return Poll::Ready(Some(ended));
            }
        }
        if self.is_empty() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// Gives up all requests: requests that change the disk continue detached, so that none is cut off; the
    /// others are aborted. Returns their number.
    pub(super) fn give_up(&mut self) -> usize {
        let count = self.len();
        self.changes.detach_all();
        self.reads.abort_all();
        self.reads.detach_all();
        count
    }
}

/// Whether dropping such a request could leave a change half done.
pub(super) fn changes(command: &Command) -> bool {
    match command {
        Command::Read { .. } | Command::Cache { .. } | Command::BlockStatus { .. } => false,
        Command::Write { .. }
        | Command::WriteZeroes { .. }
        | Command::Trim { .. }
        | Command::Flush
        | Command::Disconnect => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use tokio::sync::Semaphore;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::protocol::reply::ReplyTo;
    use crate::protocol::session::HeaderStyle;
    use crate::server::connection::timing::Timing;
    use crate::server::serve::Outcome;

    /// A request that waits for `go` and then closes it.
    async fn request(go: Arc<Semaphore>) -> Ended {
        go.acquire().await.expect("it is not closed").forget();
        go.close();
        let reply_to = ReplyTo {
            style: HeaderStyle::Simple,
            cookie: 0,
            offset: 0,
            read: false,
        };
        let answer = Answer {
            reply_to,
            outcome: Outcome::Done,
            grant: None,
            measured: None,
        };
        Ended {
            answer,
            how: How::Wait,
            begun: Timing::new(Instant::now()).begin(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn given_up_changes_continue_and_reads_are_aborted() {
        let [change, read] = [(); 2].map(|()| Arc::new(Semaphore::new(0)));
        let mut running = Running::default();
        running.spawn(true, request(Arc::clone(&change)));
        running.spawn(false, request(Arc::clone(&read)));
        tokio::task::yield_now().await;
        assert_eq!((running.give_up(), running.is_empty()), (2, true));
        let ended = async {
            while Arc::strong_count(&read) > 1 {
                sleep(Duration::from_millis(1)).await;
            }
            change.add_permits(1);
            while !change.is_closed() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(timeout(Duration::from_secs(20), ended).await.is_ok());
    }
}
