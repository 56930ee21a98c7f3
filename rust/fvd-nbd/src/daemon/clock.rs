//! The clock of background work.

use std::fs;
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

    fn starved(&self) -> Duration {
        let Ok(threads) = fs::read_dir("/proc/self/task") else {
            return Duration::ZERO;
        };
        let of_thread =
            |thread: fs::DirEntry| waited_to_run(&fs::read_to_string(thread.path().join("schedstat")).ok()?);
        let nanos = threads.flatten().filter_map(of_thread).sum();
        Duration::from_nanos(nanos)
    }
}

/// Nanoseconds that a thread has waited for a processor: the second number of its `schedstat`.
fn waited_to_run(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_long_a_thread_had_no_processor() {
        let text = fs::read_to_string("/proc/thread-self/schedstat").expect("a kernel with scheduler statistics");
        assert!(waited_to_run(&text).is_some(), "{text}");
        assert_eq!(waited_to_run("12 345 6\n"), Some(345));
        assert_eq!(waited_to_run(""), None);
    }
}
