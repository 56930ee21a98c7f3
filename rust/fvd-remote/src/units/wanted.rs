//! What a reader asks for, and what it gets.

use std::ops::Range;

use bytes::Bytes;
use fvd::Result;
use fvd::remote::Urgency;
use tokio::sync::oneshot::Receiver;

use super::flight::Flight;
use crate::fetch::UNIT;

/// Bytes of an object.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Where they begin in the object.
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

/// What a reader has asked for.
#[derive(Default)]
pub(super) struct Taken {
    /// Units that are there.
    pub(super) kept: Vec<Piece>,
    /// Units that will come, or what is wanted of them. A channel that closes without a unit says: ask again.
    pub(super) coming: Vec<(u64, Receiver<Result<Piece>>)>,
    /// Units that nothing fetches yet.
    pub(super) flights: Vec<Flight>,
}

/// How a reader asks.
pub(super) struct Wanted {
    pub(super) object: u64,
    /// Length of the object in bytes.
    pub(super) len: u64,
    pub(super) units: Range<u64>,
    /// Of these units.
    pub(super) bytes: Range<u64>,
    /// To be fetched, too, if nothing more urgent needs the memory.
    pub(super) ahead: Range<u64>,
    /// Units of the longest request.
    pub(super) longest: u64,
    pub(super) urgency: Urgency,
}

impl Wanted {
    /// What is wanted of a unit.
    pub(super) fn part(&self, unit: u64) -> Range<u64> {
        self.bytes.start.max(unit * UNIT)..self.bytes.end.min((unit + 1) * UNIT)
    }
}
