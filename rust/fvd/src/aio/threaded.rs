//! A value whose calls block, used from worker threads.

use std::sync::Arc;

use pollster::block_on;
use tracing::trace_span;

use super::pool::Pool;
use crate::error::Result;

/// A value whose calls block, and threads on which they run, for callers that must not block.
///
/// The threads belong to this value, so a call that hangs delays no other one.
#[derive(Debug)]
pub struct Threaded<T> {
    value: Arc<T>,
    pool: Pool,
}

impl<T: Send + Sync + 'static> Threaded<T> {
    /// `threads`: the most calls at once, at least 1. A thread starts when it is needed.
    #[must_use]
    pub fn new(value: Arc<T>, threads: usize) -> Self {
        let pool = Pool::new(threads);
        Self { value, pool }
    }

    /// The value, for calls that do not block.
    #[must_use]
    pub fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// Runs `work` with the value on one of the threads, where its futures may block when they are polled.
    ///
    /// If the returned future is dropped, work that has begun runs to its end, and work that has not begun
    /// never does. Until then it has a reference to the value.
    ///
    /// # Errors
    ///
    /// The error of `work`; an error if `work` panics, and in a forked child.
    pub async fn run<R: Send + 'static>(&self, work: impl AsyncFnOnce(&T) -> Result<R> + Send + 'static) -> Result<R> {
        let value = Arc::clone(&self.value);
        // Made here, so that it lies in the span of the request.
        let span = trace_span!("thread");
        let done = self.pool.run(move || {
            let done = span.in_scope(|| block_on(work(&value)));
            // Before the caller gets the result: it may count the references.
            drop(value);
            done
        });
        done?.await
    }
}
