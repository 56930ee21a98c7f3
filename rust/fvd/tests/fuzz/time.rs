//! Counts the processor time of the current thread, which does not grow while the machine does other things.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The result of `work`, and the processor time that it took on this thread.
pub(crate) fn time_of<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = now();
    let answer = work();
    (answer, now().saturating_sub(before))
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned() as u32)
}
