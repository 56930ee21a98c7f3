//! The types of loom, with the names and methods that the engine uses of those of std and `event-listener`.

use std::cell::Cell;

use loom::sync::atomic::fence;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};

/// Where the fences are that make loom's `SeqCst`, which it takes for `AcqRel`, one order of all operations.
/// Between a change and a later load of another value there must be one. Either place hides a wrong order of
/// the operation next to it, so each model runs with both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fences {
    AfterChanges,
    BeforeLoads,
}

thread_local! {
    /// All threads of a model run on one thread.
    static FENCES: Cell<Fences> = const { Cell::new(Fences::AfterChanges) };
}

/// From now on, the fences of this thread are here.
pub(crate) fn set_fences(fences: Fences) {
    FENCES.set(fences);
}

fn fence_if(fences: Fences, order: Ordering) {
    if order == Ordering::SeqCst && FENCES.get() == fences {
        fence(order);
    }
}

#[derive(Debug, Default)]
pub(crate) struct AtomicUsize(loom::sync::atomic::AtomicUsize);

impl AtomicUsize {
    pub(crate) fn load(&self, order: Ordering) -> usize {
        fence_if(Fences::BeforeLoads, order);
        self.0.load(order)
    }

    pub(crate) fn fetch_add(&self, value: usize, order: Ordering) -> usize {
        let before = self.0.fetch_add(value, order);
        fence_if(Fences::AfterChanges, order);
        before
    }

    pub(crate) fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
        let before = self.0.fetch_sub(value, order);
        fence_if(Fences::AfterChanges, order);
        before
    }
}

/// Orders memory as the one of std does: who finds a value sees what came before it was set.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    /// Loom runs one thread at a time, so this never waits.
    value: std::sync::OnceLock<T>,
    is_set: AtomicBool,
    setting: Mutex<()>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self {
            value: std::sync::OnceLock::new(),
            is_set: AtomicBool::default(),
            setting: Mutex::new(()),
        }
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.is_set.load(Ordering::Acquire).then(|| self.value.get()).flatten()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        let _setting = self.setting.lock().expect("not poisoned");
        self.value.set(value)?;
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _setting = self.setting.lock().expect("not poisoned");
        let value = self.value.get_or_init(init);
        self.is_set.store(true, Ordering::Release);
        value
    }
}

/// Wakes all listeners, as `event_listener` does with `notify(usize::MAX)`.
#[derive(Debug, Default)]
pub(crate) struct Event(Arc<Notified>);

#[derive(Debug, Default)]
struct Notified {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Event {
    pub(crate) fn listen(&self) -> EventListener {
        let seen = *self.0.count.lock().expect("not poisoned");
        EventListener {
            notified: Arc::clone(&self.0),
            seen,
        }
    }

    pub(crate) fn notify(&self, listeners: usize) {
        assert_eq!(listeners, usize::MAX, "all of them");
        *self.0.count.lock().expect("not poisoned") += 1;
        self.0.changed.notify_all();
    }
}

pub(crate) struct EventListener {
    notified: Arc<Notified>,
    seen: usize,
}

impl EventListener {
    /// Waits for a notification since [`Event::listen`].
    pub(crate) fn wait(self) {
        let mut count = self.notified.count.lock().expect("not poisoned");
        while *count == self.seen {
            count = self.notified.changed.wait(count).expect("not poisoned");
        }
    }
}
