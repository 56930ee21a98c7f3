//! Detects a fork, with a handler that the C library runs in the child.
//!
//! Everything here is lock-free: another thread of the parent may be in this code at the moment of the fork.
//! The handler may only make calls that are async-signal-safe.

use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// The number of forks between the process that loaded this library and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The process id, without a system call.
static ID: AtomicU32 = AtomicU32::new(0);

static IS_REGISTERED: AtomicBool = AtomicBool::new(false);

/// File descriptors that forked children must not share: a list that only grows.
static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());

/// A slot without a descriptor.
const FREE: i32 = -1;

/// Differs between this process, its children and its ancestors. Costs one load.
#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// The process id.
pub(crate) fn id() -> u32 {
    ID.load(Ordering::Relaxed)
}

/// Registers the handler. Call this before [`generation`] and [`id`].
#[inline]
pub(crate) fn watch() {
    if IS_REGISTERED.load(Ordering::Acquire) {
        return;
    }
    // Two threads at once may register two handlers, which does no harm.
    // SAFETY: the handler is a function of this library, and makes only async-signal-safe calls.
    let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    assert_eq!(failed, 0, "there is memory for a handler");
    ID.store(std::process::id(), Ordering::Relaxed);
    IS_REGISTERED.store(true, Ordering::Release);
}

/// Runs in the child, before `fork` returns there.
extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    ID.store(std::process::id(), Ordering::Relaxed);
    let mut slot = SLOTS.load(Ordering::Acquire);
    if slot.is_null() {
        return;
    }
    // Every process has a root directory. With O_PATH, the descriptor permits no reads and no writes.
    // SAFETY: a constant string that ends with a zero byte.
    let nothing = unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    if nothing < 0 {
        // Without a free descriptor, the child keeps what it inherited.
        return;
    }
    // SAFETY: slots are never freed.
    while let Some(current) = unsafe { slot.as_ref() } {
        let descriptor = current.descriptor.load(Ordering::Acquire);
        if descriptor != FREE {
            // SAFETY: it is registered, so it is open. Its owner in this process still owns a descriptor with
            // that number.
            unsafe { libc::dup3(nothing, descriptor, libc::O_CLOEXEC) };
        }
        slot = current.next;
    }
    // SAFETY: opened above.
    unsafe { libc::close(nothing) };
}

#[derive(Debug)]
struct Slot {
    descriptor: AtomicI32,
    /// Never changes once the slot is in the list.
    next: *mut Slot,
}

// SAFETY: an atomic, and an address that never changes and is never freed.
unsafe impl Sync for Slot {}
// SAFETY: as above.
unsafe impl Send for Slot {}

/// As long as this lives, forked children get an empty descriptor in place of this one. Drop it before the
/// descriptor is closed: the number may then be given to another file.
#[derive(Debug)]
pub(crate) struct Registration(&'static Slot);

impl Registration {
    pub(crate) fn of(descriptor: RawFd) -> Self {
        watch();
        Self::in_free_slot(descriptor).unwrap_or_else(|| Self::in_new_slot(descriptor))
    }

    fn in_free_slot(descriptor: i32) -> Option<Self> {
        let mut slot = SLOTS.load(Ordering::Acquire);
        // SAFETY: slots are never freed.
        while let Some(current) = unsafe { slot.as_ref() } {
            let taken = current
                .descriptor
                .compare_exchange(FREE, descriptor, Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                return Some(Self(current));
            }
            slot = current.next;
        }
        None
    }

    fn in_new_slot(descriptor: i32) -> Self {
        let slot = Box::leak(Box::new(Slot {
            descriptor: AtomicI32::new(descriptor),
            next: SLOTS.load(Ordering::Acquire),
        }));
        let address = ptr::from_mut(slot);
        loop {
            // SAFETY: no other thread has the address before the slot is in the list.
            let next = unsafe { (*address).next };
            let exchanged = SLOTS.compare_exchange(next, address, Ordering::AcqRel, Ordering::Acquire);
            match exchanged {
                // SAFETY: the slot is never freed, and only shared from here on.
                Ok(_) => return Self(unsafe { &*address }),
                // SAFETY: as above.
                Err(first) => unsafe { (*address).next = first },
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.descriptor.store(FREE, Ordering::Release);
    }
}
