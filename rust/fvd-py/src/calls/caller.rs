//! Those who make calls, and what they hold.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use fvd::process::PerProcess;
use fvd::{Error, Result};

use super::queue::{Queue, Watch, Work};

/// The queues of this process.
static ALL: PerProcess<Mutex<Vec<Weak<Queue>>>> = PerProcess::new(Mutex::default);

/// The right to make calls. The queue ends when the last one is dropped.
pub(crate) struct Caller(Arc<Queue>);

impl Caller {
    pub(crate) fn new(watch: Watch) -> Result<Self> {
        let queue = Arc::new(Queue::new(watch)?);
        let mut all = ALL.get().lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|queue| queue.strong_count() > 0);
        all.push(Arc::downgrade(&queue));
        Ok(Self(queue))
    }

    /// Its number in this process.
    pub(crate) fn number(&self) -> u64 {
        self.0.number()
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.0
    }

    /// Asks for a call. Dropping the ticket takes it back, if it has not begun.
    pub(crate) fn call(&self, work: Arc<dyn Work>) -> Result<Ticket> {
        let number = self.0.push(work)?;
        Ok(Ticket {
            queue: Arc::clone(&self.0),
            number,
        })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let closed = io::Error::other("it is closed");
        self.0.end(&Error::io("call it", closed));
    }
}

/// A call that is waited for.
pub(crate) struct Ticket {
    queue: Arc<Queue>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.forget(self.number);
    }
}

/// Whether there is a queue in this process.
pub(crate) fn any() -> bool {
    !all().is_empty()
}

/// Ends all queues of this process.
pub(crate) fn refuse_all(error: &Error) {
    for queue in all() {
        queue.end(error);
    }
}

fn all() -> Vec<Arc<Queue>> {
    let all = ALL.get().lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter_map(Weak::upgrade).collect()
}
