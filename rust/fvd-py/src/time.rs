//! Time for what works in the background.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fvd::host::{BoxFuture, Clock};
use tokio::runtime::{Builder, Runtime};

/// The clock of the process. It runs on a thread of its own, which is started when it is first
/// needed.
pub(crate) struct TokioClock {
    runtime: Runtime,
    start: Instant,
    /// The process whose thread it is: a fork does not copy threads.
    process: u32,
}

static CLOCK: Mutex<Option<Arc<TokioClock>>> = Mutex::new(None);

impl TokioClock {
    /// The clock of this process. Fails where no thread can be started.
    pub(crate) fn shared() -> Result<Arc<Self>, fvd::Error> {
        let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clock) = clock.as_ref().filter(|clock| clock.process == std::process::id()) {
            return Ok(Arc::clone(clock));
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fvd-clock")
            .enable_time()
            .build()
            .map_err(|error| fvd::Error::io("start a thread", error))?;
        let new = Arc::new(Self {
            runtime,
            start: Instant::now(),
            process: std::process::id(),
        });
        // To end the runtime of the parent would wait for its thread, which is not here.
        std::mem::forget(clock.replace(Arc::clone(&new)));
        Ok(new)
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        // Whoever polls it, the thread of the runtime wakes it.
        let _context = self.runtime.enter();
        Box::pin(tokio::time::sleep(time))
    }
}
