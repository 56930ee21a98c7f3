//! The mark of a disk that is still being written.
//!
//! An image, or a raw disk, that has it in place of its first bytes is refused by whoever looks what it is. The
//! original knows no such magic number and refuses it, too.

use super::PAGE;
use crate::error::Error;

/// The first bytes. An image has them in place of its magic number, and every other byte of its header as usual.
pub const MARK: [u8; 4] = [0xA9, 0xF5, 0x43, b'?'];

/// For people who look at the first bytes of a disk.
const TEXT: &[u8] = b"\nThis disk is not finished: the program that was writing it, fvd, did not come to its end.\n";

/// Whether `bytes`, the start of a file, have the mark.
#[must_use]
pub fn is_marked(bytes: &[u8]) -> bool {
    bytes.starts_with(&MARK)
}

/// Bytes that the mark takes in a disk of which nothing is in place yet: where other formats begin, too.
pub const LEN: u64 = PAGE;

/// The first [`LEN`] bytes of such a disk.
#[must_use]
pub fn page() -> Vec<u8> {
    let mut page = [&MARK, TEXT].concat();
    page.resize(LEN as usize, 0);
    page
}

/// Why a disk with the mark is refused.
#[must_use]
pub fn error() -> Error {
    Error::invalid_image(
        "The disk is not finished: the command that was writing it did not come to its end. \
         Run that command again, or delete the disk",
    )
}
