//! Python objects that threads of the core hold (docs/design/async-io.md, F5).

use std::cell::Cell;
use std::mem;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use fvd::process::PerProcess;
use pyo3::prelude::*;

/// A reference to a Python object, or to its memory, that a thread without the GIL may drop. The drop only puts
/// it aside, for the next call of [`release`], and wakes an event loop that makes it.
pub(crate) struct Held<T: Send + 'static>(Option<T>);

impl<T: Send> Held<T> {
    pub(crate) fn new(object: T) -> Self {
        Self(Some(object))
    }

    /// The reference, to be used and dropped with the GIL.
    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("it is there until now")
    }
}

impl<T: Send> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Send> Drop for Held<T> {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            ASIDE.get().put(Box::new(object));
        }
    }
}

/// What has been put aside. A forked child has its own, so no thread of the parent holds its locks.
static ASIDE: PerProcess<Aside> = PerProcess::new(Aside::default);

#[derive(Default)]
struct Aside {
    any: AtomicBool,
    objects: Mutex<Vec<Box<dyn Send>>>,
    watchers: Mutex<Vec<Weak<dyn Watcher>>>,
}

/// Something that calls [`release`] soon.
pub(crate) trait Watcher: Send + Sync {
    /// Objects have been put aside. Called without the GIL.
    fn wake(&self);
}

thread_local! {
    /// Whether this thread is within [`releasing`].
    static RELEASES: Cell<bool> = const { Cell::new(false) };
}

impl Aside {
    fn put(&self, object: Box<dyn Send>) {
        lock(&self.objects).push(object);
        let was_empty = !self.any.swap(true, Ordering::AcqRel);
        if was_empty && !RELEASES.get() {
            // The last reference to a watcher may be dropped here, and puts objects aside. So the lock is free.
            let watchers: Vec<_> = lock(&self.watchers).iter().filter_map(Weak::upgrade).collect();
            for watcher in &watchers {
                watcher.wake();
            }
        }
    }
}

/// Adds a watcher, and removes those that no longer exist.
pub(crate) fn watch(watcher: Weak<dyn Watcher>) {
    let mut watchers = lock(&ASIDE.get().watchers);
    watchers.retain(|watcher| watcher.strong_count() > 0);
    watchers.push(watcher);
}

/// Runs `work`, which may put objects aside on this thread, and then drops what has been put aside.
pub(crate) fn releasing<T>(py: Python<'_>, work: impl FnOnce() -> T) -> T {
    let outer = RELEASES.replace(true);
    let result = work();
    RELEASES.set(outer);
    release(py);
    result
}

/// Drops the objects that have been put aside.
pub(crate) fn release(_py: Python<'_>) {
    let aside = ASIDE.get();
    if aside.any.load(Ordering::Acquire) {
        // Before the list is taken: what is added after that is announced again.
        aside.any.swap(false, Ordering::AcqRel);
        let objects = mem::take(&mut *lock(&aside.objects));
        // The lock is free: a destructor in Python may come back here.
        drop(objects);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
