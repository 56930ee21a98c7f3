//! Scoped threads that a fork does not break.

use std::mem;
use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle};

use super::fork;

/// How many times this thread has given up its processor to wait for something. To be preempted does not count.
pub(crate) fn waits() -> u64 {
    // SAFETY: a `rusage` of zeros is valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the kernel fills the structure and keeps no pointer to it. With these arguments it cannot fail.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_nvcsw.cast_unsigned()
}

/// Runs `work` on `count` threads and `here` on this one. Returns when all have ended. A process that `here`
/// forked has none of these threads: there it returns when `here` has.
///
/// # Panics
///
/// If one of them panics, or if a thread cannot be started.
pub(crate) fn beside<T>(count: usize, work: &(dyn Fn() + Sync), here: impl FnOnce() -> T) -> T {
    fork::watch();
    let mut threads = Threads {
        running: Vec::with_capacity(count),
        generation: fork::generation(),
    };
    for _ in 0..count {
        // SAFETY: `threads` waits until the thread has ended, also in a panic, so everything that the thread
        // borrows outlives it. A forked child does not wait, but it has no such thread.
        let started = unsafe { Builder::new().spawn_unchecked(work) };
        threads.running.push(started.expect("a thread can be started"));
    }
    let result = here();
    if let Err(panic) = threads.join() {
        resume_unwind(panic);
    }
    result
}

struct Threads {
    running: Vec<JoinHandle<()>>,
    generation: u32,
}

impl Threads {
    fn join(&mut self) -> std::thread::Result<()> {
        let running = mem::take(&mut self.running);
        if self.generation != fork::generation() {
            mem::forget(running);
            return Ok(());
        }
        let mut result = Ok(());
        for thread in running {
            result = result.and(thread.join());
        }
        result
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Threads are left only during a panic, which is reported already.
        let _ = self.join();
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{sleep, yield_now};
    use std::time::Duration;

    use super::waits;

    #[test]
    fn a_sleep_is_a_wait_and_a_yield_is_none() {
        let before = waits();
        for _ in 0..100 {
            yield_now();
        }
        assert_eq!(waits(), before);
        sleep(Duration::from_millis(1));
        assert!(waits() > before);
    }
}
