//! Memory for data, shared by all connections: first come, first served.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::constants::MAX_PAYLOAD;

/// Memory is counted in units of so many bytes.
const UNIT: u64 = 4096;

/// What a request may allocate; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Grant {
    _permit: OwnedSemaphorePermit,
}

/// A grant that is waited for.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Grant> + Send>>;

#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    /// `bytes` in all, and never less than one request may need: it would wait for ever.
    pub(super) fn new(bytes: u64) -> Self {
        let units = bytes.max(u64::from(MAX_PAYLOAD)) / UNIT;
        Self(Arc::new(Semaphore::new((units as usize).min(Semaphore::MAX_PERMITS))))
    }

    /// Memory for `bytes`, at most [`MAX_PAYLOAD`], if it is there and nobody waits for it.
    pub(super) fn try_take(&self, bytes: u32) -> Option<Grant> {
        let permit = Arc::clone(&self.0).try_acquire_many_owned(units(bytes)).ok()?;
        Some(Grant { _permit: permit })
    }

    /// Memory for `bytes`, at most [`MAX_PAYLOAD`].
    pub(super) fn take(&self, bytes: u32) -> Waiting {
        let semaphore = Arc::clone(&self.0);
        Box::pin(async move {
            let permit = semaphore.acquire_many_owned(units(bytes)).await;
            Grant {
                _permit: permit.expect("the semaphore is never closed"),
            }
        })
    }
}

fn units(bytes: u32) -> u32 {
    debug_assert!(bytes <= MAX_PAYLOAD);
    bytes.div_ceil(UNIT as u32)
}
