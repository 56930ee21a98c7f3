//! Images, and servers, that nobody has closed when the last reference to them goes.

use pyo3::exceptions::PyResourceWarning;
use pyo3::prelude::*;

use crate::exit::{Closable, close_last};

/// Warns, as for a file, that `what` was not closed, and closes it; for destructors.
pub(crate) fn close<C: Closable>(open: &C, what: impl FnOnce() -> String) {
    // In a child that was forked nothing else may be asked: threads of the parent's may hold its locks.
    if !open.is_ours() || open.is_closed() {
        return;
    }
    Python::attach(|py| {
        // An exception may be on its way, and be what drops the image.
        let raised = PyErr::take(py);
        let message = format!("unclosed {}", what());
        let message = std::ffi::CString::new(message).unwrap_or_default();
        let category = py.get_type::<PyResourceWarning>();
        if let Err(error) = PyErr::warn(py, &category, &message, 1) {
            error.write_unraisable(py, None);
        }
        if let Err(error) = close_last(py, open) {
            error.write_unraisable(py, None);
        }
        if let Some(raised) = raised {
            raised.restore(py);
        }
    });
}
