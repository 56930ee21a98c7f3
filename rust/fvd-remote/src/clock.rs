//! Time, from the runtime of the I/O thread.

use std::time::Duration;

use fvd::host::{BoxFuture, Clock};
use tokio::time::{Instant, sleep};

/// Counts from when it was made.
pub(crate) struct IoClock(Instant);

impl IoClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for IoClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(sleep(time))
    }
}
