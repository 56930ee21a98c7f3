//! The kind of medium.

/// Whether a storage is a file or a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// A regular file: it can grow, shrink, and have holes.
    File,
    /// A block device: its length is fixed.
    Device,
}
