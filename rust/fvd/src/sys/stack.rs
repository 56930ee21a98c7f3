//! Ensures enough stack for recursion along a backing chain.

/// Stack is added when fewer bytes are left. One layer needs a fraction of this, and less than this even
/// without optimisation (160 KiB when it opens an image that was not closed).
const ROOM: usize = 256 << 10;

/// Size of an added stack, in bytes.
const SEGMENT: usize = 1 << 20;

/// Runs `work` with at least [`ROOM`] bytes of stack, on an added one if this thread has less. The files
/// decide how deep a chain is, and programs start threads with stacks of any size.
pub(crate) fn with_room<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(ROOM, SEGMENT, work)
}
