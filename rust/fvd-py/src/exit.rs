//! When the interpreter exits, images that are still open are flushed and closed, and threads ended.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::wrap_pyfunction;

use fvd::Error;

use crate::arguments::blocking;
use crate::runtime;

/// What has to be closed before the process ends.
pub(crate) trait Closable: Send + Sync {
    /// Whether this process has opened it.
    fn is_ours(&self) -> bool;

    fn is_closed(&self) -> bool;

    /// Whether who has borrowed it has given it back: nobody gets it again then. Fails where somebody
    /// serves it. Without the GIL.
    fn try_return(&self) -> Result<bool, Error>;

    /// Without the GIL.
    fn close_now(&self) -> Result<(), Error>;

    /// Nobody will close it: it stays as after a crash.
    fn abandon(&self);
}

/// Between two looks whether a server has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Until those that are being stopped have given the image back. Signals of Python's end the waiting, as
/// they end that of `Server.stop`.
pub(crate) fn wait_for_servers<C: Closable + ?Sized>(py: Python<'_>, image: &C) -> PyResult<()> {
    while !blocking(py, || image.try_return())? {
        py.check_signals()?;
        py.detach(|| thread::sleep(LOOK));
    }
    Ok(())
}

/// Closes what nobody can close later. What a server keeps for ever, on a base that hangs, a signal gives up.
pub(crate) fn close_last<C: Closable + ?Sized>(py: Python<'_>, image: &C) -> PyResult<()> {
    wait_for_servers(py, image).inspect_err(|_| image.abandon())?;
    blocking(py, || image.close_now())
}

static IMAGES: Mutex<Vec<Weak<dyn Closable>>> = Mutex::new(Vec::new());

/// Has `close_all` called before the interpreter goes down.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    let close = wrap_pyfunction!(close_all, py)?;
    py.import("atexit")?.call_method1("register", (close,))?;
    Ok(())
}

/// Adds an image, and forgets those that are gone.
pub(crate) fn remember<C: Closable + 'static>(open: &Arc<C>) {
    let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    images.retain(|image| image.strong_count() > 0);
    let open = Arc::downgrade(open);
    images.push(open);
}

#[pyfunction]
fn close_all(py: Python<'_>) {
    let images = std::mem::take(&mut *IMAGES.lock().unwrap_or_else(PoisonError::into_inner));
    // A server is younger than the images that are leased to it.
    let open = images.iter().rev().filter_map(Weak::upgrade);
    for image in open.filter(|image| image.is_ours()) {
        if let Err(error) = close_last(py, &*image) {
            error.write_unraisable(py, None);
        }
    }
    py.detach(runtime::end);
}
