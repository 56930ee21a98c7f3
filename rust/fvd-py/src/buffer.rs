//! Memory of Python objects, leased to the core.
//!
//! The core owns its buffers while an operation is in flight. For a blocking call that is cheap to
//! promise: it returns only when the operation has ended and all its buffers are dropped, and
//! the Python object is kept alive, and locked against resizing, until then. What asyncio begins
//! can outlive the call, and whoever waits for it: there the buffers of the core hold the object.
//! Other threads may still write to the memory meanwhile, as with `os.preadv`; they get what they
//! ask for.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use fvd::storage::IoBufMut;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::types::PyBytes;
use pyo3::{Bound, Py, PyAny, PyResult, Python, ffi};

/// A new bytes object of `len` bytes that nobody has initialised, and its memory.
///
/// The object must not become visible to Python before the memory has been filled.
pub(crate) fn new_bytes(py: Python<'_>, len: usize) -> PyResult<(Bound<'_, PyBytes>, LeasedMut)> {
    let size = ffi::Py_ssize_t::try_from(len)?;
    // SAFETY: a null pointer asks for uninitialised bytes; a null result is an error that is set.
    let object = unsafe {
        let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
        Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyBytes>()
    };
    // SAFETY: it is a bytes object.
    let address = unsafe { ffi::PyBytes_AsString(object.as_ptr()) };
    let leased = LeasedMut::new(address.cast(), len);
    Ok((object, leased))
}

/// A duplicate of a file descriptor that Python holds.
pub(crate) fn duplicate(fd: i32) -> io::Result<File> {
    // fcntl refuses what is not open; -1 alone is no descriptor at all.
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(9));
    }
    // SAFETY: only borrowed for the time of the duplication, which checks that it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(File::from(borrowed.try_clone_to_owned()?))
}

/// A new bytes object of `len` bytes that nobody has initialised, and its memory, which keeps the
/// object. The object must not become visible to Python before the memory has been filled.
pub(crate) fn shared_bytes(py: Python<'_>, len: usize) -> PyResult<(Py<PyBytes>, IoBufMut)> {
    let (object, leased) = new_bytes(py, len)?;
    let object = object.unbind();
    let owner = Arc::new(object.clone_ref(py));
    // SAFETY: the memory of a bytes object stays where it is while somebody holds the object.
    let memory = unsafe { IoBufMut::from_raw(leased.ptr, leased.len, Some(owner)) };
    Ok((object, memory))
}

/// Writable memory of a Python object that the caller keeps alive.
pub(crate) struct LeasedMut {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: an address; what is done with it is up to `with`.
unsafe impl Send for LeasedMut {}
// SAFETY: as above; each caller of `with` runs one operation on it.
unsafe impl Sync for LeasedMut {}

impl LeasedMut {
    fn new(ptr: *mut u8, len: usize) -> Self {
        Self {
            ptr: NonNull::new(ptr).unwrap_or(NonNull::dangling()),
            len,
        }
    }

    /// Calls `fill` with the memory. `fill` must not keep the buffer: it gives it back, or drops it.
    pub(crate) fn with<T>(&self, fill: impl FnOnce(IoBufMut) -> T) -> T {
        // SAFETY: the object lives longer than `self` (its holder keeps it), and blocking calls
        // end before they return (see the top of this file).
        fill(unsafe { IoBufMut::from_raw(self.ptr, self.len, None) })
    }
}

/// The buffer of any object with the buffer protocol, held until dropped.
pub(crate) struct Buffer(PyUntypedBuffer);

impl Buffer {
    pub(crate) fn get(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("the buffer is not C-contiguous"));
        }
        Ok(Self(buffer))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len_bytes()
    }

    /// Its memory, to be written to.
    pub(crate) fn lease_mut(&self) -> PyResult<LeasedMut> {
        if self.0.readonly() {
            return Err(PyBufferError::new_err("the buffer is read-only"));
        }
        Ok(LeasedMut::new(self.0.buf_ptr().cast(), self.len()))
    }

    /// Its memory, to be filled. It holds the object, which must be writable.
    pub(crate) fn into_memory(self) -> PyResult<IoBufMut> {
        let leased = self.lease_mut()?;
        // SAFETY: the memory of a buffer stays where it is until the buffer is given back.
        Ok(unsafe { IoBufMut::from_raw(leased.ptr, leased.len, Some(Arc::new(self))) })
    }

    /// Its memory, to be read. It holds the object.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Its memory, to be read. The caller drops every clone before `self`.
    pub(crate) fn lease(&self) -> Bytes {
        // SAFETY: not really `'static`, but the clones end with the blocking call (see the top of
        // this file).
        Bytes::from_static(unsafe { std::mem::transmute::<&[u8], &'static [u8]>(self.as_ref()) })
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        if self.len() == 0 {
            return &[];
        }
        // SAFETY: the memory is valid while the buffer is held.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), self.len()) }
    }
}
