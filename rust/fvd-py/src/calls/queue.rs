//! The queue of the calls that the core makes of one object of Python.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fvd::process::{CloseOnFork, Owned};
use fvd::{Error, Result};
use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};

/// What is to be called, and who waits for it. Only the first answer counts.
pub(crate) trait Work: Send + Sync {
    /// The name of the method, and its arguments.
    fn method(&self) -> &'static str;

    /// The arguments of the method.
    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;

    /// Gives what the method returned, or raised, to the one who waits.
    fn settle(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>);

    /// Tells the one who waits that there will be no answer. May be called without the GIL.
    fn refuse(&self, error: Error);
}

/// Who takes the calls of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Threads of Python, which wait for them.
    Threads,
    /// An event loop, which watches a descriptor.
    EventLoop,
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The queues whose calls wait for this thread: that of the call which it carries out, and of those who wait
    /// for that one.
    static WITHIN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The queues whose calls wait for this thread, for a thread that goes on with its work.
#[derive(Clone)]
pub(crate) struct Within(Vec<u64>);

impl Within {
    pub(crate) fn of_this_thread() -> Self {
        Self(WITHIN.with_borrow(Clone::clone))
    }

    /// From now on they wait for this thread.
    pub(crate) fn enter(self) {
        WITHIN.set(self.0);
    }
}

/// In a forked child it does nothing: locks are those of the parent.
pub(crate) struct Queue {
    number: u64,
    parts: Owned<Parts>,
}

struct Parts {
    state: Mutex<State>,
    /// For threads.
    ready: Condvar,
    /// For an event loop.
    signal: Option<Signal>,
}

#[derive(Default)]
struct State {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    running: BTreeMap<u64, Arc<dyn Work>>,
    /// Calls that run and that are not waited for any more, for an event loop.
    dropped: Vec<u64>,
    over: Option<Error>,
}

struct Waiting {
    work: Arc<dyn Work>,
    within: Vec<u64>,
}

/// A call to carry out, with its number.
pub(super) type Taken = (u64, Arc<dyn Work>);

struct Signal {
    /// Before the descriptor: it must be dropped first.
    _close_on_fork: CloseOnFork,
    eventfd: OwnedFd,
}

impl Signal {
    fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            _close_on_fork: CloseOnFork::new(eventfd.as_fd()),
            eventfd,
        })
    }
}

impl Parts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.ready.notify_one();
        if let Some(signal) = &self.signal {
            // It cannot fail: the counter of an eventfd does not reach its limit.
            let _ = rustix::io::write(&signal.eventfd, &1_u64.to_ne_bytes());
        }
    }

    /// Refuses the calls that wait, and all later ones. Calls that run go on, but who waits for them gets the
    /// error now.
    fn end(&self, error: &Error) {
        let (waiting, running) = {
            let mut state = self.lock();
            if state.over.is_some() {
                return;
            }
            state.over = Some(error.clone());
            (std::mem::take(&mut state.waiting), std::mem::take(&mut state.running))
        };
        let waiting = waiting.into_values().map(|waiting| waiting.work);
        for work in waiting.chain(running.into_values()) {
            work.refuse(error.clone());
        }
        self.ready.notify_all();
        self.wake();
    }
}

impl Queue {
    pub(super) fn new(watch: Watch) -> Result<Self> {
        let failed = |error| Error::io("create an eventfd", error);
        let signal = match watch {
            Watch::Threads => None,
            Watch::EventLoop => Some(Signal::new().map_err(failed)?),
        };
        let parts = Parts {
            state: Mutex::default(),
            ready: Condvar::new(),
            signal,
        };
        Ok(Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            parts: Owned::new(parts),
        })
    }

    /// Its number in this process.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Adds a call, and returns its number.
    pub(super) fn push(&self, work: Arc<dyn Work>) -> Result<u64> {
        let parts = self.parts.get()?;
        let within = WITHIN.with_borrow(Clone::clone);
        if within.contains(&self.number) {
            let loops = rustix::io::Errno::DEADLK.into();
            return Err(Error::io("call itself from within a call", loops));
        }
        let mut state = parts.lock();
        if let Some(error) = &state.over {
            return Err(error.clone());
        }
        state.next += 1;
        let number = state.next;
        state.waiting.insert(number, Waiting { work, within });
        drop(state);
        parts.wake();
        Ok(number)
    }

    /// The descriptor that an event loop watches. None in a forked child, and for threads.
    pub(super) fn descriptor(&self) -> Option<i32> {
        let signal = self.parts.get().ok()?.signal.as_ref()?;
        Some(signal.eventfd.as_raw_fd())
    }

    /// Waits for a call. None if there will be none. Must be called without the GIL.
    pub(super) fn next(&self) -> Option<Taken> {
        let parts = self.parts.get().ok()?;
        WITHIN.with_borrow_mut(Vec::clear);
        let mut state = parts.lock();
        loop {
            if state.over.is_some() {
                return None;
            }
            if let Some((number, waiting)) = state.waiting.pop_first() {
                state.running.insert(number, Arc::clone(&waiting.work));
                let within = waiting.within.iter().copied().chain([self.number]);
                WITHIN.with_borrow_mut(|all| all.extend(within));
                return Some((number, waiting.work));
            }
            state = parts.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the calls that wait, and the numbers of those that are not waited for any more. None if there will
    /// be none.
    pub(super) fn take(&self) -> Option<(Vec<Taken>, Vec<u64>)> {
        let parts = self.parts.get().ok()?;
        if let Some(signal) = &parts.signal {
            // Before the list is taken: what is added after that wakes the event loop again.
            let _ = rustix::io::read(&signal.eventfd, &mut [0_u8; 8]);
        }
        let mut state = parts.lock();
        if state.over.is_some() {
            return None;
        }
        let taken = std::mem::take(&mut state.waiting).into_iter();
        let taken: Vec<Taken> = taken.map(|(number, waiting)| (number, waiting.work)).collect();
        state.running.extend(taken.iter().cloned());
        Some((taken, std::mem::take(&mut state.dropped)))
    }

    /// A call has ended. Returns its work, if this is not known yet.
    pub(super) fn ended(&self, number: u64) -> Option<Arc<dyn Work>> {
        self.parts.get().ok()?.lock().running.remove(&number)
    }

    pub(super) fn end(&self, error: &Error) {
        if let Ok(parts) = self.parts.get() {
            parts.end(error);
        }
    }

    /// A call is not waited for any more.
    pub(super) fn forget(&self, number: u64) {
        let Ok(parts) = self.parts.get() else { return };
        let mut state = parts.lock();
        let taken_back = state.waiting.remove(&number);
        let wakes = parts.signal.is_some() && state.running.contains_key(&number);
        if wakes {
            state.dropped.push(number);
        }
        drop(state);
        // Its memory may belong to an object of the caller: no lock is held.
        drop(taken_back);
        if wakes {
            parts.wake();
        }
    }
}
