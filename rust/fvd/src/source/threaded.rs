//! Runs a blocking source on worker threads.

use std::sync::Arc;

use super::delegate::delegate_to_inner;
use super::{BaseSource, BoxFuture, Run};
use crate::aio::{CloseGuard, Opened, Remains, Threaded};
use crate::error::Result;
use crate::storage::IoBufMut;

/// The most reads of one source at once.
const THREADS: usize = 16;

/// Reads a source on threads of its own, so a read that hangs delays no other file. For reading only.
///
/// A read owns its buffer until it ends, even if its future is dropped.
pub struct ThreadedSource {
    source: Threaded<Opened<Box<dyn BaseSource>>>,
    /// Last, so that it is dropped last: it closes the source, which may also block.
    close_guard: CloseGuard<Box<dyn BaseSource>>,
}

impl Drop for ThreadedSource {
    fn drop(&mut self) {
        // This source and its close guard each have a reference. Any others belong to reads.
        if Arc::strong_count(self.source.value()) > 2 {
            self.close_guard.remains = Remains::Reads;
        }
    }
}

impl ThreadedSource {
    /// `source`: its futures may block when they are polled.
    #[must_use]
    pub fn new(source: Box<dyn BaseSource>) -> Self {
        let (source, close_guard) = CloseGuard::of(source, false, |_| ());
        Self {
            source: Threaded::new(source, THREADS),
            close_guard,
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(&dyn BaseSource) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = self
            .source
            .run(async move |source: &Opened<_>| work(&***source).await)
            .await;
        done.map_err(|error| error.with_path(self.path()))
    }
}

impl BaseSource for ThreadedSource {
    delegate_to_inner!(source.value());

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(self.run(async move |source: &dyn BaseSource| source.read(buf, offset).await))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(self.run(async move |source: &dyn BaseSource| source.status(offset, len).await))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::path::Path;
    use std::pin::pin;
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Mutex, PoisonError};
    use std::task::{Context, Waker};

    use pollster::block_on;

    use super::*;

    /// Answers when the test tells it to.
    struct Slow {
        answers: Mutex<Receiver<u8>>,
    }

    impl BaseSource for Slow {
        fn path(&self) -> &Path {
            Path::new("slow")
        }

        fn format(&self) -> &'static str {
            "raw"
        }

        fn len(&self) -> u64 {
            4096
        }

        fn read(&self, mut buf: IoBufMut, _: u64) -> BoxFuture<'_, Result<IoBufMut>> {
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            buf.as_mut_slice().fill(answers.recv().expect("the test answers"));
            Box::pin(std::future::ready(Ok(buf)))
        }

        fn status(&self, _: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
            Box::pin(std::future::ready(Ok(Run::zeros(len))))
        }
    }

    #[test]
    fn a_source_that_blocks_does_not_block_the_polling_thread() {
        let (answer, answers) = channel();
        let source = ThreadedSource::new(Box::new(Slow {
            answers: Mutex::new(answers),
        }));
        let mut read = pin!(source.read(IoBufMut::zeroed(512), 0));
        let mut context = Context::from_waker(Waker::noop());
        assert!(read.as_mut().poll(&mut context).is_pending());
        // A read that hangs delays no other call.
        assert_eq!(block_on(source.status(0, 7)).expect("no I/O"), Run::zeros(7));
        answer.send(5).expect("a thread waits");
        assert_eq!(block_on(read).expect("answered").as_slice(), [5; 512]);
    }
}
