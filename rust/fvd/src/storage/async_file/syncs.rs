//! One sync at a time.
//!
//! The kernel reports a write that was lost to one sync, and to no other: not to one that runs beside
//! it, nor to the next. So nobody is told of success behind a failure.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use async_lock::Mutex;

use crate::error::{Error, Result};

/// The syncs of one file.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// How many have been asked for.
    asked: AtomicU64,
    /// Held by the one that is at work.
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    /// Of those asked for, how many came before a sync began that has succeeded.
    done: u64,
    /// How the first one failed.
    failure: Option<Error>,
}

impl Syncs {
    /// Waits its turn, then for `sync`, unless one that began since has done its work.
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
    fn those_that_came_before_a_sync_began_share_it() {
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
    fn nothing_succeeds_behind_a_failure() {
        let syncs = Syncs::default();
        let failure = Error::new(ErrorKind::NoSpace, "of the test");
        assert!(matches!(
            poll(pin!(syncs.join(|| ready(Err(failure))))),
            Poll::Ready(Err(_))
        ));
        let Poll::Ready(next) = poll(pin!(syncs.join(|| ready(Ok(()))))) else {
            panic!("nobody is at work")
        };
        assert_eq!(next.expect_err("the first has failed").kind(), ErrorKind::NoSpace);
    }
}
