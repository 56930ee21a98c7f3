//! The mark of an unfinished disk: one that a command is still writing, or did not finish
//! (docs/design/format.md, section 10).
//!
//! The mark replaces the first bytes of an image or a raw disk. Format detection takes such a disk for an FVD
//! image, and reading its header fails. The original driver does not know this magic number and refuses it,
//! too.

use super::PAGE;
use crate::error::Error;

/// The first bytes. In an image they replace the magic number; the rest of the header is as usual.
pub const MARK: [u8; 4] = [0xA9, 0xF5, 0x43, b'?'];

/// Readable text for a user who looks at the first bytes of the disk.
const TEXT: &[u8] = b"\nThis disk is not finished: the program that was writing it, fvd, did not come to its end.\n";

/// Whether `bytes`, the start of a file, have the mark.
#[must_use]
pub fn is_marked(bytes: &[u8]) -> bool {
    bytes.starts_with(&MARK)
}

/// Bytes that the mark takes in a disk that has no content yet. They also overwrite the magic number of any
/// other format.
pub const LEN: u64 = PAGE;

/// The first [`LEN`] bytes of a disk that has no content yet: the mark, a text, zeros.
#[must_use]
pub fn page() -> Vec<u8> {
    let mut page = [&MARK, TEXT].concat();
    page.resize(LEN as usize, 0);
    page
}

/// The error for a disk with the mark.
#[must_use]
pub fn error() -> Error {
    Error::invalid_image(
        "The disk is not finished: the command that was writing it did not come to its end. \
         Run that command again, or delete the disk",
    )
}
