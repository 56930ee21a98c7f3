//! Images and servers that are still open when the last reference to them is dropped.

use pyo3::exceptions::PyResourceWarning;
use pyo3::prelude::*;

use crate::exit::{Closable, close_last};

/// Warns that `what` was not closed, as Python does for files, and closes it. For destructors.
pub(crate) fn close<C: Closable>(open: &C, what: impl FnOnce() -> String) {
    // In a forked child no other method may be called: threads of the parent may hold the locks.
    if !open.is_ours() || open.is_closed() {
        return;
    }
    Python::attach(|py| {
        // An exception may be propagating, and may be what dropped the object. It is set aside here and
        // restored below.
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
