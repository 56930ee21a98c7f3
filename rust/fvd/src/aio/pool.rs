//! Threads that may block.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::handoff::{Handoff, handoff};
use super::process::Process;
use crate::error::{Error, Result};

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// A bounded number of threads, started when there is work and ended when there is none. One for
/// each file or source: what hangs holds up nothing else.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    process: Process,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
    idle_time: Duration,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    is_closing: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {} threads", self.limit)
    }
}

impl Pool {
    /// `limit`: most threads at once, at least 1.
    pub(crate) fn new(limit: usize) -> Self {
        Self::with_idle_time(limit, IDLE)
    }

    fn with_idle_time(limit: usize, idle_time: Duration) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            limit,
            idle_time,
        });
        let process = Process::current();
        Self { shared, process }
    }

    /// Begins `work`, in the order of the calls as far as there are threads. It runs to its end,
    /// also if nobody waits for it.
    ///
    /// # Errors
    ///
    /// If there is no thread, and none can be started; in a forked child.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Handoff<T>> {
        self.process.check()?;
        let (handoff, completer) = handoff();
        // A panic drops the completer, which tells.
        let job: Job = Box::new(move || completer.complete(work()));
        let mut state = self.shared.lock();
        if state.idle <= state.jobs.len() && state.threads < self.shared.limit {
            match self.start_thread() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(Error::io("start a thread", error)),
                Err(_) => {}
            }
        }
        state.jobs.push_back(job);
        drop(state);
        self.shared.changed.notify_one();
        Ok(handoff)
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let builder = std::thread::Builder::new().name("fvd-io".to_owned());
        builder.spawn(move || shared.serve()).map(drop)
    }
}

impl Drop for Pool {
    /// What was begun ends; nobody waits for it here.
    fn drop(&mut self) {
        if self.process.is_current() {
            self.shared.lock().is_closing = true;
            self.shared.changed.notify_all();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.lock();
                continue;
            }
            if state.is_closing {
                break;
            }
            state.idle += 1;
            let waited = self.changed.wait_timeout(state, self.idle_time);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pollster::block_on;

    use super::*;

    #[test]
    fn no_more_threads_work_at_once_than_the_limit_says() {
        let pool = Pool::new(3);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs: Vec<_> = (0..20)
            .map(|_| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                pool.run(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                })
            })
            .collect();
        for job in jobs {
            block_on(job.expect("threads can be started")).expect("nothing fails");
        }
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn jobs_that_wait_for_one_another_run_side_by_side() {
        let pool = Pool::new(4);
        let barrier = Arc::new(Barrier::new(4));
        let jobs: Vec<_> = (0..4)
            .map(|_| {
                let barrier = Arc::clone(&barrier);
                pool.run(move || {
                    barrier.wait();
                    Ok(())
                })
            })
            .collect();
        for job in jobs {
            block_on(job.expect("threads can be started")).expect("nothing fails");
        }
    }

    #[test]
    fn a_panic_is_an_error_and_the_thread_goes_on() {
        let pool = Pool::new(1);
        let broken = pool.run(|| -> Result<()> { panic!("of the test") }).expect("a thread");
        block_on(broken).expect_err("it panicked");
        assert_eq!(block_on(pool.run(|| Ok(5)).expect("a thread")).expect("no panic"), 5);
    }

    #[test]
    fn idle_threads_end_and_new_ones_start() {
        let pool = Pool::with_idle_time(2, Duration::from_millis(1));
        for _ in 0..2 {
            block_on(pool.run(|| Ok(())).expect("a thread")).expect("nothing fails");
            while pool.shared.lock().threads > 0 {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn what_was_begun_is_done_after_the_pool_is_gone() {
        let pool = Pool::new(1);
        let jobs = [1, 2, 3].map(|number| pool.run(move || Ok(number)).expect("a thread"));
        drop(pool);
        for (number, job) in (1..).zip(jobs) {
            assert_eq!(block_on(job).expect("done"), number);
        }
    }
}
