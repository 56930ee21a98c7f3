//! Values that exist once per process.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::fork;

/// See [`PerProcess`](crate::process::PerProcess).
#[derive(Debug)]
pub(crate) struct Values<T: 'static>(AtomicPtr<Value<T>>);

#[derive(Debug)]
struct Value<T> {
    generation: u32,
    value: T,
}

impl<T: Send + Sync + 'static> Values<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The value of this process, made at the first call. It is never dropped.
    pub(crate) fn get(&self, make: fn() -> T) -> &'static T {
        fork::watch();
        let generation = fork::generation();
        let mut address = self.0.load(Ordering::Acquire);
        loop {
            // SAFETY: values are never freed, and only shared once their address is stored here.
            if let Some(found) = unsafe { address.as_ref() }
                && found.generation == generation
            {
                return &found.value;
            }
            let value = make();
            let new = Box::into_raw(Box::new(Value { generation, value }));
            let exchanged = self
                .0
                .compare_exchange(address, new, Ordering::AcqRel, Ordering::Acquire);
            match exchanged {
                // SAFETY: see above.
                Ok(_) => return unsafe { &(*new).value },
                Err(other) => {
                    // SAFETY: it was made above, and no other thread has its address.
                    drop(unsafe { Box::from_raw(new) });
                    address = other;
                }
            }
        }
    }
}
