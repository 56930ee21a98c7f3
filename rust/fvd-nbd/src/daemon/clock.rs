//! Time for what works in the background.

use std::time::{Duration, Instant};

use fvd::host::{BoxFuture, Clock};
use tokio::runtime::Handle;

/// The clock of a runtime, for whatever polls it.
pub struct TokioClock {
    handle: Handle,
    start: Instant,
}

impl TokioClock {
    /// Measures from now on.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            start: Instant::now(),
        }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        // Whoever polls it, the runtime wakes it.
        let _context = self.handle.enter();
        Box::pin(tokio::time::sleep(time))
    }
}
