//! Worker threads that may block.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::how;
use super::oneshot::{Recall, Receiver, oneshot};
use super::queue::Queue;
use crate::error::Result;
use crate::process::Process;

/// How long an idle thread stays. One thread stays for ever.
const IDLE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// A bounded number of threads. They start when there is work and end when there is none. One thread stays,
/// because it may be impossible to start another. Each file or source has its own pool, so an operation that
/// hangs delays no other file.
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
    jobs: Queue<Job>,
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
    /// `limit`: the maximum number of threads at once. With 0, the caller of [`Pool::run`] does all work.
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

    /// Runs `work` on a thread. As far as there are threads, work begins in the order of the calls. Once
    /// begun it runs to its end, even if the receiver is dropped.
    ///
    /// If no thread can be started and none runs, the caller runs `work` here: to block once is better than
    /// an error that looks as if the medium had failed.
    ///
    /// # Errors
    ///
    /// In a forked child.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Receiver<T>> {
        self.process.check()?;
        how::to_thread();
        let (receiver, sender) = oneshot();
        // A panic drops the sender, which gives an error to the receiver.
        let job: Job = Box::new(move || sender.complete(work()));
        let mut state = self.shared.lock();
        let wants_thread = state.idle <= state.jobs.len() && state.threads < self.shared.limit;
        if wants_thread && self.start_thread().is_ok() {
            state.threads += 1;
        }
        if state.threads == 0 {
            drop(state);
            do_job(job);
            return Ok(receiver);
        }
        let ticket = state.jobs.push(job);
        drop(state);
        self.shared.changed.notify_one();
        let shared = Arc::clone(&self.shared);
        Ok(receiver.waiting_in(shared, ticket))
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let builder = std::thread::Builder::new().name("fvd-io".to_owned());
        builder.spawn(move || shared.serve()).map(drop)
    }
}

impl Drop for Pool {
    /// Does not wait: work that has begun runs to its end.
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
            if let Some(job) = state.jobs.pop() {
                drop(state);
                do_job(job);
                state = self.lock();
                continue;
            }
            if state.is_closing {
                break;
            }
            let (woken, is_surplus) = self.wait(state);
            state = woken;
            if is_surplus && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    /// Waits for work. True if there was none for a long time and other threads stay.
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, bool) {
        state.idle += 1;
        let (mut state, timed_out) = if state.threads == 1 {
            let woken = self.changed.wait(state);
            (woken.unwrap_or_else(PoisonError::into_inner), false)
        } else {
            let woken = self.changed.wait_timeout(state, self.idle_time);
            let (state, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            (state, timeout.timed_out())
        };
        state.idle -= 1;
        let is_surplus = timed_out && state.threads > 1;
        (state, is_surplus)
    }
}

impl Recall for Shared {
    fn recall(&self, ticket: u64) {
        let job = self.lock().jobs.take_back(ticket);
        // Dropped without the lock: dropping what it owns may take other locks.
        drop(job);
    }
}

fn do_job(job: Job) {
    // After a panic, the dropped sender has told the receiver.
    let _ = catch_unwind(AssertUnwindSafe(job));
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pollster::block_on;

    use super::*;

    #[test]
    fn no_more_threads_than_the_limit_work_at_once() {
        let pool = Pool::with_idle_time(3, Duration::from_secs(3600));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Each job waits until three are at work.
        let three = Arc::new(Barrier::new(3));
        let jobs: Vec<_> = (0..21)
            .map(|_| {
                let (now, most, three) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&three));
                pool.run(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    three.wait();
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                })
            })
            .collect();
        for job in jobs {
            block_on(job.expect("threads can be started")).expect("nothing fails");
        }
        assert_eq!(most.load(Ordering::SeqCst), 3);
        assert_eq!(pool.shared.lock().threads, 3);
    }

    #[test]
    fn jobs_that_wait_for_one_another_run_in_parallel() {
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
    fn a_panic_gives_an_error_and_the_thread_continues() {
        let pool = Pool::new(1);
        let broken = pool.run(|| -> Result<()> { panic!("of the test") }).expect("a thread");
        block_on(broken).expect_err("it panicked");
        assert_eq!(block_on(pool.run(|| Ok(5)).expect("a thread")).expect("no panic"), 5);
    }

    #[test]
    fn all_idle_threads_but_one_end() {
        let pool = Pool::with_idle_time(3, Duration::from_millis(1));
        for _ in 0..2 {
            let barrier = Arc::new(Barrier::new(3));
            let jobs = [(); 3].map(|()| {
                let barrier = Arc::clone(&barrier);
                pool.run(move || Ok(barrier.wait())).expect("not forked")
            });
            for job in jobs {
                block_on(job).expect("nothing fails");
            }
            while pool.shared.lock().threads > 1 {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(pool.shared.lock().threads, 1);
        }
    }

    #[test]
    fn without_threads_the_caller_does_the_work() {
        let pool = Pool::new(0);
        let caller = std::thread::current().id();
        let done = pool.run(move || Ok(std::thread::current().id() == caller));
        assert!(block_on(done.expect("not forked")).expect("done"));
    }

    #[test]
    fn dropping_a_receiver_drops_work_that_has_not_begun() {
        let pool = Pool::new(1);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let first = pool.run(move || wait.recv().map_err(|_| unreachable!("the test sends")));
        let buffer = Arc::new(());
        let watch = Arc::downgrade(&buffer);
        let [given_up, detached] = [(); 2].map(|()| {
            let buffer = Arc::clone(&buffer);
            let work = move || {
                drop(buffer);
                Ok(())
            };
            pool.run(work).expect("not forked")
        });
        drop(buffer);
        drop(given_up);
        assert_eq!(watch.strong_count(), 1);
        // A detached operation stays in the queue.
        let mut detached = detached;
        let unfinished = detached.unfinished();
        drop(detached);
        assert_eq!(watch.strong_count(), 1);
        go.send(()).expect("a thread waits");
        block_on(first.expect("not forked")).expect("nothing fails");
        block_on(pool.run(|| Ok(())).expect("not forked")).expect("nothing fails");
        assert!(watch.strong_count() == 0 && unfinished.has_ended() && unfinished.failure().is_none());
    }

    #[test]
    fn work_ends_after_the_pool_is_dropped() {
        let pool = Pool::new(1);
        let jobs = [1, 2, 3].map(|number| pool.run(move || Ok(number)).expect("a thread"));
        drop(pool);
        for (number, job) in (1..).zip(jobs) {
            assert_eq!(block_on(job).expect("done"), number);
        }
    }
}
