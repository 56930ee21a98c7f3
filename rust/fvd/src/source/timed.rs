//! A base with a time limit.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tracing::info;

use super::delegate::delegate_to_inner;
use super::{BaseSource, BoxFuture, Run, WritableBase};
use crate::error::{Error, Result};
use crate::host::Clock;
use crate::storage::IoBufMut;

/// A source whose reads fail with `ETIMEDOUT` when they take longer than a limit.
///
/// For sources whose futures wait. A source that blocks its thread, as a file on a network file system can,
/// would never return to check the clock.
pub struct TimedSource {
    source: Box<dyn BaseSource>,
    clock: Arc<dyn Clock>,
    limit: Duration,
}

impl TimedSource {
    /// `limit`: for one read or one status call.
    #[must_use]
    pub fn new(source: Box<dyn BaseSource>, clock: Arc<dyn Clock>, limit: Duration) -> Self {
        Self { source, clock, limit }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>, offset: u64) -> Result<T> {
        let mut work = pin!(work);
        let mut limit = self.clock.sleep(self.limit);
        poll_fn(|context| {
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            limit.as_mut().poll(context).map(|()| Err(self.too_late(offset)))
        })
        .await
    }

    fn too_late(&self, offset: u64) -> Error {
        let (path, limit) = (self.path().display(), self.limit);
        info!(%path, offset, "the base has not answered within {limit:?}: the request fails");
        let error = rustix::io::Errno::TIMEDOUT.into();
        Error::io("read the backing file", error)
            .with_path(self.path())
            .with_offset(offset)
    }
}

impl BaseSource for TimedSource {
    delegate_to_inner!(source);

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(self.in_time(self.source.read(buf, offset), offset))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(self.in_time(self.source.status(offset, len), offset))
    }

    /// Without a limit: a write that was given up could still reach the disk after a later one.
    fn writable(&self) -> Option<&dyn WritableBase> {
        self.source.writable()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::path::Path;

    use pollster::block_on;

    use super::*;
    use crate::source::RawSource;
    use crate::storage::MemoryStorage;

    /// A clock whose sleeps end at once.
    struct Hurried;

    impl Clock for Hurried {
        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'_, ()> {
            Box::pin(ready(()))
        }
    }

    /// Never answers.
    struct Silent;

    impl BaseSource for Silent {
        fn path(&self) -> &Path {
            Path::new("silent")
        }

        fn format(&self) -> &'static str {
            "raw"
        }

        fn len(&self) -> u64 {
            4096
        }

        fn read(&self, _: IoBufMut, _: u64) -> BoxFuture<'_, Result<IoBufMut>> {
            Box::pin(pending())
        }

        fn status(&self, _: u64, _: u64) -> BoxFuture<'_, Result<Run>> {
            Box::pin(pending())
        }
    }

    fn timed(source: Box<dyn BaseSource>) -> TimedSource {
        TimedSource::new(source, Arc::new(Hurried), Duration::from_secs(30))
    }

    #[test]
    fn a_base_that_does_not_answer_in_time_gives_an_error() {
        let source = timed(Box::new(Silent));
        let error = block_on(source.read(IoBufMut::zeroed(512), 1024)).expect_err("the time is over");
        assert_eq!(error.errno(), Some(libc::ETIMEDOUT));
        assert_eq!(error.path(), Some(Path::new("silent")));
        block_on(source.status(0, 512)).expect_err("the time is over");
    }

    #[test]
    fn a_late_answer_still_counts_if_it_is_ready() {
        let storage = MemoryStorage::from_bytes(&[7; 512]);
        let source = block_on(RawSource::new(storage)).expect("memory does not fail");
        let source = timed(Box::new(source));
        let buf = block_on(source.read(IoBufMut::zeroed(512), 0)).expect("it is there");
        assert_eq!(buf.as_slice(), [7; 512]);
    }
}
