//! The memory budget for data, shared by all connections. Requests are served in the order in which they ask.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::protocol::constants::MAX_PAYLOAD;

/// The granularity of the budget in bytes.
const UNIT: u64 = 4096;

/// The memory that a request may allocate. Returned to the budget on drop.
#[derive(Debug)]
pub(super) struct Grant {
    _permit: OwnedSemaphorePermit,
}

/// A future that yields a grant.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Grant> + Send>>;

#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    /// A budget of `bytes`, but at least [`MAX_PAYLOAD`]: a request that needs more than the whole budget
    /// would wait for ever.
    pub(super) fn new(bytes: u64) -> Self {
        let units = bytes.max(u64::from(MAX_PAYLOAD)) / UNIT;
        Self(Arc::new(Semaphore::new((units as usize).min(Semaphore::MAX_PERMITS))))
    }

    /// A grant of `bytes` (at most [`MAX_PAYLOAD`]), if that much is free and no other request is waiting.
    pub(super) fn try_take(&self, bytes: u32) -> Option<Grant> {
        let permit = Arc::clone(&self.0).try_acquire_many_owned(units(bytes)).ok()?;
        Some(Grant { _permit: permit })
    }

    /// Waits for a grant of `bytes` (at most [`MAX_PAYLOAD`]).
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
