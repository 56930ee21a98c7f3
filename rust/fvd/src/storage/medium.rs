//! What a storage lies on.

/// What kind of thing is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// A regular file: grows, is cut, has holes.
    File,
    /// A block device: has the length it has.
    Device,
}
