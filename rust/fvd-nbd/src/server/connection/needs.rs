//! The memory that a request may need, for the budget that all connections share.

use crate::protocol::constants::{MAX_EXTENTS, MAX_PAYLOAD};
use crate::protocol::meta::Context;
use crate::protocol::request::Command;

/// The memory for the longest block status of all metadata contexts together, in bytes.
const STATUS: u32 = (Context::ALL.len() * MAX_EXTENTS * size_of::<(u64, u32)>()) as u32;

/// The maximum number of bytes that a disk reads at once from the base, to copy data or to complete a block.
const PIECE: u32 = 1 << 20;

/// The memory in bytes for `command`, at most [`MAX_PAYLOAD`]. `block` is the preferred block size of the
/// disk in bytes.
pub(super) fn needs(command: &Command, block: u32) -> u32 {
    match *command {
        Command::Read { length, .. } => length,
        Command::Write { offset, length, .. } => {
            // The rest of the partial blocks at both ends is read from the base (read-modify-write).
            let block = u64::from(block.max(1));
            let end = offset + u64::from(length);
            let cut = [offset, end].iter().filter(|at| !at.is_multiple_of(block)).count();
            let edges = cut as u32 * PIECE.min(block as u32);
            length.saturating_add(edges).min(MAX_PAYLOAD)
        }
        Command::BlockStatus { one: false, .. } => STATUS,
        Command::Cache { length: 1.., .. } => PIECE,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, length: u32) -> u32 {
        let fua = false;
        needs(&Command::Write { offset, length, fua }, 65_536)
    }

    #[test]
    fn a_write_needs_its_payload_and_the_blocks_at_its_ends() {
        assert_eq!(write(65_536, 131_072), 131_072);
        assert_eq!(write(0, 4096), 4096 + 65_536);
        assert_eq!(write(4096, 4096), 4096 + 2 * 65_536);
        assert_eq!(write(512, MAX_PAYLOAD), MAX_PAYLOAD, "there is no more to be had");
    }

    #[test]
    fn caching_needs_memory_although_it_transfers_no_data() {
        let cache = |length| needs(&Command::Cache { offset: 0, length }, 4096);
        assert_eq!((cache(1 << 40), cache(0)), (PIECE, 0));
    }
}
