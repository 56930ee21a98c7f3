//! Memory that an I/O operation owns while it is in flight.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;

/// Alignment of every buffer made by [`IoBufMut::zeroed`], in bytes: enough for `O_DIRECT` on any medium.
pub(crate) const ALIGNMENT: usize = 4096;

/// A writable piece of memory, with shared ownership of the allocation that contains it.
///
/// It can be split into disjoint pieces, which operations in flight at once can fill. The memory lives until
/// the last piece is dropped. Pieces never overlap, so each has exclusive access to its bytes.
pub struct IoBufMut {
    ptr: NonNull<u8>,
    len: usize,
    /// Keeps the memory alive. None: the caller of `from_raw` promised to keep it.
    owner: Option<Arc<dyn Send + Sync>>,
}

// SAFETY: a piece has exclusive access to its bytes (type invariant), and the owner is Send + Sync.
unsafe impl Send for IoBufMut {}
// SAFETY: a shared reference gives only read access.
unsafe impl Sync for IoBufMut {}

impl IoBufMut {
    /// `len` zero bytes, aligned to 4096 bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let memory = AlignedMemory::zeroed(len);
        Self {
            ptr: memory.ptr,
            len,
            owner: Some(Arc::new(memory)),
        }
    }

    /// Memory that the caller provides.
    ///
    /// # Safety
    ///
    /// Until this buffer and all pieces split from it are dropped, `ptr..ptr + len` must stay valid for reads
    /// and writes, and no other code may access it. Either `owner` ensures that or, with `None`, the caller
    /// does. Bytes that are not initialised must be written before they are read.
    #[must_use]
    pub unsafe fn from_raw(ptr: NonNull<u8>, len: usize, owner: Option<Arc<dyn Send + Sync>>) -> Self {
        Self { ptr, len, owner }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a buffer without bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Cuts the buffer at `at` (bytes): `self` keeps the front, the rest is returned.
    ///
    /// # Panics
    ///
    /// If `at` lies beyond the end.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(at <= self.len, "split at {at} of a buffer of {} bytes", self.len);
        let rest = Self {
            // SAFETY: `at` is within the piece or one past its end.
            ptr: unsafe { self.ptr.add(at) },
            len: self.len - at,
            owner: self.owner.clone(),
        };
        self.len = at;
        rest
    }

    /// Undoes a [`IoBufMut::split_off`]: joins `self` and `rest`, which must start where `self` ends.
    ///
    /// # Panics
    ///
    /// If the two are not neighbours in the same memory.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "its access ends here: the result has it")]
    pub fn join(self, rest: Self) -> Self {
        let end = self.ptr.as_ptr() as usize + self.len;
        assert_eq!(end, rest.ptr.as_ptr() as usize, "joined buffers are neighbours");
        let same = match (&self.owner, &rest.owner) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        assert!(same, "joined buffers lie in the same memory");
        Self {
            ptr: self.ptr,
            len: self.len + rest.len,
            owner: self.owner,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: valid and exclusive by the type invariant.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    /// The bytes, writable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: valid and exclusive by the type invariant.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// Address of the first byte, for system calls that fill the buffer.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// The same memory, now read-only, and cheap to clone and slice.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for IoBufMut {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for IoBufMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IoBufMut({} bytes)", self.len)
    }
}

/// One allocation from the global allocator.
struct AlignedMemory {
    ptr: NonNull<u8>,
    layout: Layout,
}

// SAFETY: owns its allocation; access goes through the pieces of `IoBufMut`.
unsafe impl Send for AlignedMemory {}
// SAFETY: as above.
unsafe impl Sync for AlignedMemory {}

impl AlignedMemory {
    fn zeroed(len: usize) -> Self {
        let layout = Layout::from_size_align(len.max(1), ALIGNMENT).expect("a buffer is smaller than isize::MAX");
        // SAFETY: the layout has a size of at least 1.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) });
        let ptr = ptr.unwrap_or_else(|| handle_alloc_error(layout));
        Self { ptr, layout }
    }
}

impl Drop for AlignedMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout.
        unsafe { dealloc(self.ptr.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_split_buffer_are_filled_separately() {
        let mut whole = IoBufMut::zeroed(10);
        let base = whole.as_slice().as_ptr() as usize;
        let mut rest = whole.split_off(4);
        let last = rest.split_off(6);
        rest.as_mut_slice().fill(7);
        whole.as_mut_slice().fill(1);
        assert_eq!((whole.len(), rest.len(), last.len()), (4, 6, 0));
        assert_eq!(rest.as_slice().as_ptr() as usize, base + 4);
        drop(whole);
        assert_eq!(rest.freeze(), [7; 6].as_slice());
    }

    #[test]
    fn buffers_are_aligned_for_direct_io() {
        assert_eq!(IoBufMut::zeroed(1).as_slice().as_ptr() as usize % ALIGNMENT, 0);
    }
}
