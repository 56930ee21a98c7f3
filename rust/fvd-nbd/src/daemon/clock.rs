//! The clock of background work.

use std::time::{Duration, Instant};

use fvd::host::{BoxFuture, Clock};
use tokio::runtime::Handle;

/// The clock of a tokio runtime. Its futures may be polled outside of the runtime.
pub struct TokioClock {
    handle: Handle,
    start: Instant,
}

impl TokioClock {
    /// A clock that starts at zero now.
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
        // The timer belongs to this runtime even if the future is polled outside of it.
        let _context = self.handle.enter();
        Box::pin(tokio::time::sleep(time))
    }
}
