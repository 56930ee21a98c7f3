//! The thread that does all I/O of a process (R6).

use std::future::{Future, pending};
use std::sync::{Mutex, PoisonError};
use std::thread;

use fvd::process::PerProcess;
use fvd::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Handle};
use tokio::task::AbortHandle;

use crate::simulated;

/// Made at the first request. A forked child has a value of its own, and never looks at its parent's.
static IO_THREAD: PerProcess<Mutex<Option<Handle>>> = PerProcess::new(|| Mutex::new(None));

/// Runs `task` on the I/O thread.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Result<AbortHandle> {
    Ok(handle()?.spawn(task).abort_handle())
}

fn handle() -> Result<Handle> {
    if let Some(simulated) = simulated::runtime() {
        return Ok(simulated);
    }
    let mut slot = IO_THREAD.get().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*slot {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .thread_name("fvd-resolve")
        .max_blocking_threads(8)
        .build()
        .map_err(|error| Error::io("start a thread for requests", error))?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("fvd-remote".to_owned())
        .spawn(move || runtime.block_on(pending::<()>()))
        .map_err(|error| Error::io("start a thread for requests", error))?;
    *slot = Some(handle.clone());
    Ok(handle)
}

/// Runs `task` on the I/O thread and blocks until it has ended. Not for the I/O thread itself.
pub(crate) fn run<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    spawn(async move {
        // The receiver waits until there is a value.
        _ = sender.send(task.await);
    })?;
    pollster::block_on(receiver).map_err(|_| Error::new(ErrorKind::Io, "The request was given up before its end"))
}
