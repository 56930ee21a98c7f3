//! A clock with a thread of its own.

use std::time::{Duration, Instant};

use fvd::host::{BoxFuture, Clock};
use tokio::runtime::{Builder, Runtime};

pub(crate) struct Timer {
    runtime: Runtime,
    start: Instant,
}

impl Timer {
    pub(crate) fn new() -> crate::Result<Self> {
        Ok(Self {
            runtime: Builder::new_multi_thread().worker_threads(1).enable_time().build()?,
            start: Instant::now(),
        })
    }
}

impl Clock for Timer {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        let _context = self.runtime.enter();
        Box::pin(tokio::time::sleep(time))
    }
}
