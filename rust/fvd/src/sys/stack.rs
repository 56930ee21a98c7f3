//! Room on the stack for work that goes down a chain, layer by layer.

/// Bytes of stack below which more is made: several times what one layer needs, and more than it needs where
/// nothing is optimised (opening an image that was not closed: some 160 KiB).
const ROOM: usize = 256 << 10;

/// Bytes of a stack that is added.
const SEGMENT: usize = 1 << 20;

/// Runs `work` with at least [`ROOM`] bytes of stack, on one that is added where this thread's has
/// less: a chain is as deep as its files say, and threads are started by programs with stacks of any size.
pub(crate) fn with_room<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(ROOM, SEGMENT, work)
}
