//! Images that are still open when the interpreter exits are flushed and closed.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use pyo3::prelude::*;
use pyo3::wrap_pyfunction;

use crate::arguments::blocking;
use crate::open::Open;

static IMAGES: Mutex<Vec<Weak<Open>>> = Mutex::new(Vec::new());

/// Has `close_all` called before the interpreter goes down.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    let close = wrap_pyfunction!(close_all, py)?;
    py.import("atexit")?.call_method1("register", (close,))?;
    Ok(())
}

/// Adds an image, and forgets those that are gone.
pub(crate) fn remember(open: &Arc<Open>) {
    let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    images.retain(|image| image.strong_count() > 0);
    images.push(Arc::downgrade(open));
}

#[pyfunction]
fn close_all(py: Python<'_>) {
    let images = std::mem::take(&mut *IMAGES.lock().unwrap_or_else(PoisonError::into_inner));
    for image in images.iter().filter_map(Weak::upgrade).filter(|image| image.is_ours()) {
        if let Err(error) = blocking(py, || image.close()) {
            error.write_unraisable(py, None);
        }
    }
}
