//! Python objects that threads of the core hold (docs/design/async-io.md, F5).

use std::mem;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use fvd::process::PerProcess;
use pyo3::prelude::*;

/// A reference to a Python object, or to its memory, that a thread without the GIL may drop. The drop only puts
/// it aside, for the next call of [`release`].
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

/// What has been put aside. A forked child has its own, so no thread of the parent holds its lock.
static ASIDE: PerProcess<Aside> = PerProcess::new(Aside::default);

#[derive(Default)]
struct Aside {
    any: AtomicBool,
    objects: Mutex<Vec<Box<dyn Send>>>,
}

impl Aside {
    fn put(&self, object: Box<dyn Send>) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).push(object);
        self.any.store(true, Ordering::Release);
    }
}

/// Drops the objects that have been put aside.
pub(crate) fn release(_py: Python<'_>) {
    let aside = ASIDE.get();
    if aside.any.load(Ordering::Acquire) {
        aside.any.store(false, Ordering::Relaxed);
        let objects = mem::take(&mut *aside.objects.lock().unwrap_or_else(PoisonError::into_inner));
        // The lock is free: a destructor in Python may come back here.
        drop(objects);
    }
}
