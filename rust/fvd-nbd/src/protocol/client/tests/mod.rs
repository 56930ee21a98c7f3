//! The client half against the server half, and against servers that break the protocol.

mod attacks;
mod round_trip;

use super::fault::ServerFault;
use super::handshake::{Negotiation, Opened, Step};
use super::reply::{Done, Replies};
use crate::protocol::constants::OPTION_REPLY_MAGIC;

/// The replies to `option`: their types and data.
fn answers(option: u32, replies: &[(u32, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, data) in replies {
        bytes.extend(OPTION_REPLY_MAGIC.to_be_bytes());
        for field in [option, *kind, data.len() as u32] {
            bytes.extend(field.to_be_bytes());
        }
        bytes.extend(*data);
    }
    bytes
}

/// What comes out of `replies` for `bytes`, fed in pieces of `piece` bytes.
fn feed(replies: &mut Replies, bytes: &[u8], piece: usize) -> Result<Vec<Done>, ServerFault> {
    let mut all = Vec::new();
    for mut input in bytes.chunks(piece) {
        while let Some(done) = replies.feed(&mut input)? {
            all.push(done);
        }
        assert!(input.is_empty());
    }
    Ok(all)
}
