//! Memory of Python objects, leased to the core.
//!
//! The core owns its buffers while an operation is in flight. For a blocking call this is simple: the call
//! returns only when the operation has ended and its buffers are dropped, and until then the Python object is
//! kept alive and locked against resizing. An asyncio operation can outlive the call that started it, and the
//! task that awaits it, so there the buffers of the core hold a reference to the object. Other threads may
//! write to the memory during the operation, as with `os.preadv`; what is read or written is then undefined.

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

use crate::held::Held;

/// A new bytes object of `len` uninitialised bytes, and its memory.
///
/// The object must not become visible to Python before the memory has been filled.
pub(crate) fn new_bytes(py: Python<'_>, len: usize) -> PyResult<(Bound<'_, PyBytes>, LeasedMut)> {
    let size = ffi::Py_ssize_t::try_from(len)?;
    // SAFETY: a null pointer asks for uninitialised bytes. A null result means that an exception is set.
    let object = unsafe {
        let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
        Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyBytes>()
    };
    // SAFETY: it is a bytes object.
    let address = unsafe { ffi::PyBytes_AsString(object.as_ptr()) };
    let leased = LeasedMut::new(address.cast(), len);
    Ok((object, leased))
}

/// A duplicate of a file descriptor that Python code owns.
pub(crate) fn duplicate(fd: i32) -> io::Result<File> {
    // fcntl refuses a descriptor that is not open. A negative number must not become a `BorrowedFd` at all.
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(9));
    }
    // SAFETY: borrowed only during the duplication, which checks that the descriptor is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(File::from(borrowed.try_clone_to_owned()?))
}

/// A new bytes object of `len` uninitialised bytes, and its memory, which holds a reference to the object.
/// The object must not become visible to Python before the memory has been filled.
pub(crate) fn shared_bytes(py: Python<'_>, len: usize) -> PyResult<(Held<Py<PyBytes>>, IoBufMut)> {
    let (object, leased) = new_bytes(py, len)?;
    let owner = Arc::new(Held::new(object.clone().unbind()));
    // SAFETY: the memory of a bytes object stays in place while a reference to the object exists.
    let memory = unsafe { IoBufMut::from_raw(leased.ptr, leased.len, Some(owner)) };
    Ok((Held::new(object.unbind()), memory))
}

/// Writable memory of a Python object that the caller keeps alive.
pub(crate) struct LeasedMut {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: it is only an address, and all accesses go through `with`.
unsafe impl Send for LeasedMut {}
// SAFETY: as above. Each caller of `with` runs only one operation on the memory.
unsafe impl Sync for LeasedMut {}

impl LeasedMut {
    fn new(ptr: *mut u8, len: usize) -> Self {
        Self {
            ptr: NonNull::new(ptr).unwrap_or(NonNull::dangling()),
            len,
        }
    }

    /// Calls `fill` with the memory. `fill` must not keep the buffer: it must return or drop it.
    pub(crate) fn with<T>(&self, fill: impl FnOnce(IoBufMut) -> T) -> T {
        // SAFETY: the holder of `self` keeps the object alive, and the operation ends before the blocking
        // call returns (see the top of this file).
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

    /// Its memory for writing. `BufferError` if it is read-only.
    pub(crate) fn lease_mut(&self) -> PyResult<LeasedMut> {
        if self.0.readonly() {
            return Err(PyBufferError::new_err("the buffer is read-only"));
        }
        Ok(LeasedMut::new(self.0.buf_ptr().cast(), self.len()))
    }

    /// Its memory for writing, holding a reference to the object. `BufferError` if it is read-only.
    pub(crate) fn into_memory(self) -> PyResult<IoBufMut> {
        let leased = self.lease_mut()?;
        // SAFETY: the memory of a buffer stays in place until the buffer is released.
        Ok(unsafe { IoBufMut::from_raw(leased.ptr, leased.len, Some(Arc::new(Held::new(self)))) })
    }

    /// Its memory for reading, holding a reference to the object.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(Held::new(self))
    }

    /// Its memory for reading. The caller must drop every clone before `self`.
    pub(crate) fn lease(&self) -> Bytes {
        // SAFETY: the memory is not `'static`, but all clones are dropped when the blocking call ends (see
        // the top of this file).
        Bytes::from_static(unsafe { std::mem::transmute::<&[u8], &'static [u8]>(self.as_ref()) })
    }
}

impl AsRef<[u8]> for Held<Buffer> {
    fn as_ref(&self) -> &[u8] {
        (**self).as_ref()
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
