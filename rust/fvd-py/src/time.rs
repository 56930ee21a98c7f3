//! Time for what works in the background.

use std::time::{Duration, Instant};

use fvd::host::{BoxFuture, Clock};
use tokio::runtime::Handle;

use crate::runtime;

/// Time as the runtime of the process measures it.
pub(crate) struct TokioClock {
    runtime: Handle,
    start: Instant,
}

impl TokioClock {
    /// Fails where no thread can be started.
    pub(crate) fn new() -> Result<Self, fvd::Error> {
        Ok(Self {
            runtime: runtime::shared()?,
            start: Instant::now(),
        })
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        // Whoever polls it, a thread of the runtime wakes it.
        let _context = self.runtime.enter();
        Box::pin(tokio::time::sleep(time))
    }
}
