//! Room on the stack for work that goes down a chain, layer by layer.

/// Bytes that one layer needs at most, several times over: what is left when more is made.
const ROOM: usize = 128 << 10;

/// Bytes of a stack that is added.
const SEGMENT: usize = 1 << 20;

/// Runs `work` with at least [`ROOM`] bytes of stack, on one that is added where this thread's has
/// less: a chain is as deep as its files say, and threads are started by programs with stacks of any size.
pub(crate) fn with_room<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(ROOM, SEGMENT, work)
}
