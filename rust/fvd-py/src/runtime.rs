//! The tokio runtime of the process, for timers and asyncio operations.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fvd::Error;
use fvd::process::PerProcess;
use tokio::runtime::{Builder, Handle, Runtime};

/// Enough to keep a disk busy, and the thread of the event loop, which does most of the work.
const WORKERS: usize = 2;

/// The time that operations in flight get when the process ends.
const END: Duration = Duration::from_secs(5);

/// A fork does not copy threads. So a child has its own runtime, and its own lock, which no thread of the
/// parent holds.
static RUNTIME: PerProcess<Mutex<Option<Runtime>>> = PerProcess::new(Mutex::default);

/// The runtime of this process, started at first use. Fails if no thread can be started.
pub(crate) fn shared() -> Result<Handle, Error> {
    let mut shared = RUNTIME.get().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = shared.as_ref() {
        return Ok(runtime.handle().clone());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("fvd-runtime")
        .enable_time()
        .build()
        .map_err(|error| Error::io("start a thread", error))?;
    Ok(shared.insert(runtime).handle().clone())
}

/// Ends the runtime before the interpreter exits: a thread must not deliver a result to Python while the
/// interpreter shuts down. Must be called without the GIL, because such threads wait for it.
pub(crate) fn end() {
    let shared = RUNTIME.get().lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(runtime) = shared {
        runtime.shutdown_timeout(END);
    }
}
