//! When the interpreter exits, images that are still open are flushed and closed, and threads ended.

use std::sync::{Arc, Mutex, PoisonError, Weak};

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

    /// Without the GIL.
    fn close_now(&self) -> Result<(), Error>;
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
    // A server is younger than the images that are lent to it.
    let open = images.iter().rev().filter_map(Weak::upgrade);
    for image in open.filter(|image| image.is_ours()) {
        if let Err(error) = blocking(py, || image.close_now()) {
            error.write_unraisable(py, None);
        }
    }
    py.detach(runtime::end);
}
