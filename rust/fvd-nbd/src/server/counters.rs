//! What a server has done so far, to be read while it serves.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::request::Command;

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Flushes.
    Flush,
    /// Trimming.
    Trim,
    /// Caching.
    Cache,
    /// Zeroing.
    WriteZeroes,
    /// Questions about metadata contexts.
    BlockStatus,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Trim,
        Self::Cache,
        Self::WriteZeroes,
        Self::BlockStatus,
    ];

    /// The name that the protocol gives it, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Trim => "trim",
            Self::Cache => "cache",
            Self::WriteZeroes => "write_zeroes",
            Self::BlockStatus => "block_status",
        }
    }
}

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Answered, with success or not.
    pub requests: u64,
    /// Bytes of those that succeeded: of data, or of the range.
    pub bytes: u64,
    /// Answered with an error of the disk.
    pub errors: u64,
}

/// Connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Open now.
    pub now: u64,
    /// Served since the start, including those that are open.
    pub total: u64,
    /// Closed as they came, because there were too many.
    pub refused: u64,
    /// Ended as nobody meant them to.
    pub failed: u64,
}

/// Counts since the start of a server. Each is exact; two that are read one after the other can be
/// of different moments.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) open: AtomicU64,
    pub(super) total: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    in_flight: AtomicU64,
    invalid: AtomicU64,
    pub(super) polled: AtomicU64,
    kinds: [OfKind; Kind::ALL.len()],
}

#[derive(Debug, Default)]
struct OfKind {
    requests: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
}

impl Counters {
    /// Connections.
    #[must_use]
    pub fn connections(&self) -> ConnectionCounts {
        ConnectionCounts {
            now: get(&self.open),
            total: get(&self.total),
            refused: get(&self.refused),
            failed: get(&self.failed),
        }
    }

    /// Requests of one kind.
    #[must_use]
    pub fn requests(&self, kind: Kind) -> RequestCounts {
        let of = &self.kinds[kind as usize];
        RequestCounts {
            requests: get(&of.requests),
            bytes: get(&of.bytes),
            errors: get(&of.errors),
        }
    }

    /// Requests that were begun and are not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        get(&self.in_flight)
    }

    /// Requests that could not be: unknown, out of bounds, writes to what is read-only. They are in
    /// no other count.
    #[must_use]
    pub fn invalid(&self) -> u64 {
        get(&self.invalid)
    }

    /// Times that the next request came while it was looked for: nobody had to be woken.
    #[must_use]
    pub fn polled(&self) -> u64 {
        get(&self.polled)
    }

    pub(super) fn begun(&self) {
        add(&self.in_flight, 1);
    }

    /// `count` requests that were begun end without an answer.
    pub(super) fn abandoned(&self, count: u64) {
        self.in_flight.fetch_sub(count, Ordering::Relaxed);
    }

    /// A request that was begun is answered: with `bytes`, or, None, an error.
    pub(super) fn answered(&self, kind: Kind, bytes: Option<u64>) {
        self.abandoned(1);
        let of = &self.kinds[kind as usize];
        add(&of.requests, 1);
        match bytes {
            Some(bytes) => add(&of.bytes, bytes),
            None => add(&of.errors, 1),
        }
    }

    pub(super) fn refused_request(&self) {
        add(&self.invalid, 1);
    }
}

/// The kind of a request and the bytes that it is about. None: a farewell.
pub(super) fn measure(command: &Command) -> Option<(Kind, u64)> {
    Some(match *command {
        Command::Read { length, .. } => (Kind::Read, length.into()),
        Command::Write { length, .. } => (Kind::Write, length.into()),
        Command::Flush => (Kind::Flush, 0),
        Command::Trim { length, .. } => (Kind::Trim, length),
        Command::Cache { length, .. } => (Kind::Cache, length),
        Command::WriteZeroes { length, .. } => (Kind::WriteZeroes, length),
        Command::BlockStatus { length, .. } => (Kind::BlockStatus, length),
        Command::Disconnect => return None,
    })
}

/// Nothing is read or written because of a count: no order between them is needed.
pub(super) fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        let counters = Counters::default();
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            counters.begun();
            counters.answered(kind, (number > 0).then_some(number as u64));
        }
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            let (bytes, errors) = (number as u64, u64::from(number == 0));
            let expected = RequestCounts {
                requests: 1,
                bytes,
                errors,
            };
            assert_eq!(counters.requests(kind), expected, "{}", kind.name());
        }
        assert_eq!(counters.in_flight(), 0);
    }
}
