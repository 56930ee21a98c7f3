//! The tokio runtime of the process: timers, and what asyncio waits for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fvd::Error;
use tokio::runtime::{Builder, Handle, Runtime};

/// Enough to keep the event loop's thread, which does most of the work, and a disk busy.
const WORKERS: usize = 2;

/// What an operation that is still under way may take when the process ends.
const END: Duration = Duration::from_secs(5);

struct Shared {
    runtime: Runtime,
    /// The process whose threads they are: a fork does not copy threads.
    process: u32,
}

static RUNTIME: Mutex<Option<Shared>> = Mutex::new(None);

/// The runtime of this process, started when it is first needed. Fails where no thread can be
/// started.
pub(crate) fn shared() -> Result<Handle, Error> {
    let mut shared = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = shared.as_ref().filter(|shared| shared.process == std::process::id()) {
        return Ok(shared.runtime.handle().clone());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("fvd-runtime")
        .enable_time()
        .build()
        .map_err(|error| Error::io("start a thread", error))?;
    let handle = runtime.handle().clone();
    let process = std::process::id();
    // To end the runtime of the parent would wait for its threads, which are not here.
    std::mem::forget(shared.replace(Shared { runtime, process }));
    Ok(handle)
}

/// Ends the runtime, before the interpreter does: a thread that is just handing over a result would
/// not survive that. Without the GIL, for which such threads wait.
pub(crate) fn end() {
    let shared = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).take();
    match shared {
        Some(shared) if shared.process == std::process::id() => shared.runtime.shutdown_timeout(END),
        other => std::mem::forget(other),
    }
}
