//! The tokio runtime of the process: timers, and what asyncio waits for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fvd::Error;
use fvd::process::PerProcess;
use tokio::runtime::{Builder, Handle, Runtime};

/// Enough to keep the event loop's thread, which does most of the work, and a disk busy.
const WORKERS: usize = 2;

/// What an operation that is still under way may take when the process ends.
const END: Duration = Duration::from_secs(5);

/// A fork does not copy threads: a child has a runtime of its own, and a lock that none of the
/// parent's threads holds.
static RUNTIME: PerProcess<Mutex<Option<Runtime>>> = PerProcess::new(Mutex::default);

/// The runtime of this process, started when it is first needed. Fails where no thread can be
/// started.
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

/// Ends the runtime, before the interpreter does: a thread that is just handing over a result would
/// not survive that. Without the GIL, for which such threads wait.
pub(crate) fn end() {
    let shared = RUNTIME.get().lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(runtime) = shared {
        runtime.shutdown_timeout(END);
    }
}
