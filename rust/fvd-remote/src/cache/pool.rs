//! Threads for the disk of the cache. A disk that hangs holds some of them, and nothing else.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot::{self, Receiver};
use tokio::time::sleep;

use crate::simulated;

/// Enough to keep a disk busy.
const THREADS: usize = 4;
/// Of these, for jobs that no reader waits for: the kernel holds up those who write much.
const BACKGROUND: usize = 2;
/// Jobs of each kind that wait. More would be no faster.
const WAITING: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// Threads of one cache. They end with it.
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    background: VecDeque<Job>,
    /// Background jobs that run.
    in_background: usize,
    threads: usize,
    idle: usize,
    has_ended: bool,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Runs `work` on a thread. The channel closes without a value if there is no thread, or too much to do.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move || {
            // What is no longer waited for is not begun.
            if !sender.is_closed() {
                // The result of work that took too long is dropped here.
                _ = sender.send(work());
            }
        });
        self.push(job, |state| &mut state.jobs);
        receiver
    }

    /// Runs `work` although nothing waits for it, if there is not too much to do.
    pub(super) fn run_later(&self, work: impl FnOnce() + Send + 'static) {
        self.push(Box::new(work), |state| &mut state.background);
    }

    fn push(&self, work: Job, queue: impl FnOnce(&mut State) -> &mut VecDeque<Job>) {
        if let Some(runtime) = simulated::runtime() {
            return drop(runtime.spawn(async move {
                sleep(Duration::from_millis(1)).await;
                work();
            }));
        }
        let mut state = self.0.lock();
        let queue = queue(&mut state);
        if queue.len() >= WAITING {
            drop(state);
            // What the job holds, such as locks, goes here.
            return drop(work);
        }
        queue.push_back(work);
        let dropped = self.0.start_thread(&mut state);
        drop(state);
        drop(dropped);
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one if none is idle. Returns what will never run.
    fn start_thread(self: &Arc<Self>, state: &mut State) -> VecDeque<Job> {
        let waiting = state.jobs.len() + state.background.len();
        if state.idle >= waiting || state.threads == THREADS {
            return VecDeque::new();
        }
        let shared = Arc::clone(self);
        let builder = thread::Builder::new().name("fvd-cache".to_owned());
        match builder.spawn(move || shared.work()) {
            Ok(_) => state.threads += 1,
            Err(_) if state.threads == 0 => {
                let mut dropped = std::mem::take(&mut state.jobs);
                dropped.append(&mut state.background);
                return dropped;
            }
            Err(_) => {}
        }
        VecDeque::new()
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.lock();
            } else if let Some(job) = state.next_in_background() {
                drop(state);
                job();
                state = self.lock();
                state.in_background -= 1;
            } else if state.has_ended {
                return;
            } else {
                state.idle += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

impl State {
    fn next_in_background(&mut self) -> Option<Job> {
        if self.in_background == BACKGROUND {
            return None;
        }
        let job = self.background.pop_front()?;
        self.in_background += 1;
        Some(job)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.changed.notify_all();
    }
}
