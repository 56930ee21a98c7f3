//! Memory of Python objects, leased to the core.
//!
//! The core owns its buffers while an operation is in flight. For a blocking write this is simple: the call
//! returns only when the operation has ended and its buffers are dropped, and until then the Python object is
//! kept alive and locked against resizing. A read can outlive the call, which a signal may end; an asyncio
//! operation can outlive the task that awaits it. So there the buffers of the core hold a reference to the
//! object. Other threads may write to the memory during the operation, as with `os.preadv`; what is read or
//! written is then undefined.

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
    let size = ffi::Py_ssize_t::try_from(len)?;
    // SAFETY: a null pointer asks for uninitialised bytes. A null result means that an exception is set.
    let object = unsafe {
        let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
        Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyBytes>()
    };
    // SAFETY: it is a bytes object.
    let address = unsafe { ffi::PyBytes_AsString(object.as_ptr()) };
    let owner = Arc::new(Held::new(object.clone().unbind()));
    // SAFETY: the memory of a bytes object stays in place while a reference to the object exists.
    let memory = unsafe { IoBufMut::from_raw(address_of(address.cast()), len, Some(owner)) };
    Ok((Held::new(object.unbind()), memory))
}

/// The address of memory, which may be none if it is empty.
fn address_of(memory: *mut u8) -> NonNull<u8> {
    NonNull::new(memory).unwrap_or(NonNull::dangling())
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

    /// Its memory for writing, holding a reference to the object. `BufferError` if it is read-only.
    pub(crate) fn into_memory(self) -> PyResult<IoBufMut> {
        if self.0.readonly() {
            return Err(PyBufferError::new_err("the buffer is read-only"));
        }
        let (address, len) = (address_of(self.0.buf_ptr().cast()), self.len());
        // SAFETY: the memory of a buffer stays in place until the buffer is released.
        Ok(unsafe { IoBufMut::from_raw(address, len, Some(Arc::new(Held::new(self)))) })
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
