//! Python objects that belong to threads of the core.

use pyo3::prelude::*;

/// A reference to a Python object that any thread may drop.
///
/// The drop of a bare `Py` on a thread without the GIL takes a lock of pyo3, which the forking thread does not
/// hold. A child that was forked at that moment would wait for it for ever (docs/design/async-io.md, F5). So
/// this drop takes the GIL, which the forking thread always holds. It must not happen under a lock that a
/// thread with the GIL waits for.
pub(crate) struct Held<T>(Option<Py<T>>);

impl<T> Held<T> {
    /// The object. The caller gives its reference away.
    pub(crate) fn into_inner(mut self) -> Py<T> {
        self.0.take().expect("only a drop and this function take it")
    }
}

impl<T> From<Py<T>> for Held<T> {
    fn from(object: Py<T>) -> Self {
        Self(Some(object))
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let Some(object) = self.0.take() else { return };
        let mut object = Some(object);
        if Python::try_attach(|_| object = None).is_none() {
            // The interpreter is ending, and frees the object, or does not.
            std::mem::forget(object);
        }
    }
}
