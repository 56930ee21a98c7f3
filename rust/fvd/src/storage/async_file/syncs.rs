//! Runs one sync at a time.
//!
//! The kernel reports a lost write to one sync only: neither to a sync that runs at the same time nor to the
//! next. So after one failure every later sync must fail too (A3).

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use async_lock::Mutex;

use crate::error::{Error, Result};

/// The syncs of one file.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// How many syncs were requested.
    asked: AtomicU64,
    /// Held by the sync that runs.
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    /// How many requests came before the last successful sync began.
    done: u64,
    /// The first failure.
    failure: Option<Error>,
}

impl Syncs {
    /// Waits for the running sync, then runs `sync`. If a sync that began after this request has succeeded,
    /// that is enough.
    pub(super) async fn join<F: Future<Output = Result<()>>>(&self, sync: impl FnOnce() -> F) -> Result<()> {
        let own = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut past = self.past.lock().await;
        if let Some(failure) = &past.failure {
            return Err(failure.clone());
        }
        if past.done >= own {
            return Ok(());
        }
        let asked = self.asked.load(Ordering::SeqCst);
        match sync().await {
            Ok(()) => past.done = asked,
            Err(error) => {
                past.failure = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::aio::oneshot;
    use crate::error::ErrorKind;

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn requests_before_a_sync_begins_share_it() {
        let syncs = Syncs::default();
        let (first, end_first) = oneshot::<()>();
        let (second, end_second) = oneshot::<()>();
        let begun = Cell::new(0);
        let count = |sync| {
            begun.set(begun.get() + 1);
            sync
        };
        let mut a = pin!(syncs.join(|| count(first)));
        assert!(poll(a.as_mut()).is_pending());
        let mut b = pin!(syncs.join(|| count(second)));
        let mut c = pin!(syncs.join(|| -> std::future::Ready<Result<()>> { unreachable!("it shares that of b") }));
        assert!(poll(b.as_mut()).is_pending() && poll(c.as_mut()).is_pending());
        assert_eq!(begun.get(), 1);
        end_first.complete(Ok(()));
        assert!(poll(a.as_mut()).is_ready());
        assert!(poll(b.as_mut()).is_pending() && poll(c.as_mut()).is_pending());
        assert_eq!(begun.get(), 2, "what b has written may have come behind the first");
        end_second.complete(Ok(()));
        assert!(matches!(poll(b.as_mut()), Poll::Ready(Ok(()))));
        assert!(matches!(poll(c.as_mut()), Poll::Ready(Ok(()))));
    }

    #[test]
    fn no_sync_succeeds_after_a_failure() {
        let syncs = Syncs::default();
        let failure = Error::new(ErrorKind::NoSpace, "of the test");
        assert!(matches!(
            poll(pin!(syncs.join(|| ready(Err(failure))))),
            Poll::Ready(Err(_))
        ));
        let Poll::Ready(next) = poll(pin!(syncs.join(|| ready(Ok(()))))) else {
            panic!("no sync runs")
        };
        assert_eq!(next.expect_err("the first has failed").kind(), ErrorKind::NoSpace);
    }
}
