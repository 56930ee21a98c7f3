//! How long a reader waits for a store that does not answer.
//!
//! Readers of one unit share its flight and can have different limits, so a flight knows of none: it goes on as
//! long as one of them waits. The time is taken on the I/O thread, because a read may be polled by any runtime
//! or none.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fvd::{Error, Result};
use tokio::select;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::fault::fault;
use crate::fetch::{StoreState, timed_out};
use crate::transport::io_thread;

/// Runs `read`. Fails with `ETIMEDOUT` as [`given_up`] says.
pub(crate) async fn within<T>(
    limit: Duration,
    store: &Arc<StoreState>,
    read: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut read = pin!(read);
    let mut watch = None;
    poll_fn(|context| {
        if let Poll::Ready(done) = read.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        // What is in memory needs no watch.
        let watch = match &mut watch {
            Some(watch) => watch,
            none => none.insert(Watch::start(limit, Arc::clone(store))?),
        };
        watch.poll(context).map(Err)
    })
    .await
}

/// Waits until a read that begins now is to be given up: after `limit`, or after the first attempt that fails
/// when the store has been away for that long.
pub(crate) async fn given_up(limit: Duration, store: &StoreState) -> Error {
    if fault!(LimitForgotten) {
        std::future::pending::<()>().await;
    }
    let begun = store.clock.now();
    let seen = store.health.failures();
    loop {
        let mut failure = pin!(store.health.next_failure());
        failure.as_mut().enable();
        let now = store.clock.now();
        let waited = now.saturating_sub(begun);
        let (away, reason) = store.health.outage(now).unwrap_or_default();
        let has_failed = store.health.failures() != seen;
        if waited >= limit || (has_failed && away >= limit) {
            let reason = if reason.is_empty() {
                "the server does not answer"
            } else {
                &reason
            };
            return timed_out(waited.max(away), reason);
        }
        select! {
            biased;
            () = failure => {}
            () = store.clock.sleep(limit.saturating_sub(waited)) => {}
        }
    }
}

/// A task of the I/O thread, which ends with this.
struct Watch {
    over: oneshot::Receiver<Error>,
    task: AbortHandle,
}

impl Watch {
    fn start(limit: Duration, store: Arc<StoreState>) -> Result<Self> {
        let (sender, over) = oneshot::channel();
        let task = io_thread::spawn(async move {
            // A reader that has gone needs no error.
            _ = sender.send(given_up(limit, &store).await);
        })?;
        Ok(Self { over, task })
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        match ready!(Pin::new(&mut self.over).poll(context)) {
            Ok(error) => Poll::Ready(error),
            // The thread is gone, and with it the flight, whose end the reader gets.
            Err(_) => Poll::Pending,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !fault!(WatchLeft) {
            self.task.abort();
        }
    }
}
