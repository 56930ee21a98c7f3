//! Counters of a server, which can be read while it serves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fvd::aio::How;

use super::latency::{Histogram, Latencies};
use crate::protocol::request::Command;

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Flushes.
    Flush,
    /// `TRIM` commands.
    Trim,
    /// `CACHE` commands.
    Cache,
    /// `WRITE_ZEROES` commands.
    WriteZeroes,
    /// Block status queries.
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

    /// The name of the command in the protocol, in lower case.
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

/// The counts of requests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Requests that were answered, successfully or not.
    pub requests: u64,
    /// Bytes of the successful ones: of their data, or of their range.
    pub bytes: u64,
    /// Requests that were answered with an error of the disk.
    pub errors: u64,
}

/// The counts of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Connections that are open now.
    pub now: u64,
    /// Connections since the start, including those that are open.
    pub total: u64,
    /// Connections that were closed at once because there were too many.
    pub refused: u64,
    /// Connections that ended with an error.
    pub failed: u64,
}

/// Counts since the start of a server. Each count is exact. Counts that are read one after the other may be
/// from different moments.
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
    times: [[Histogram; How::ALL.len()]; Kind::ALL.len()],
}

#[derive(Debug, Default)]
struct OfKind {
    requests: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
}

impl Counters {
    /// The counts of connections.
    #[must_use]
    pub fn connections(&self) -> ConnectionCounts {
        ConnectionCounts {
            now: get(&self.open),
            total: get(&self.total),
            refused: get(&self.refused),
            failed: get(&self.failed),
        }
    }

    /// The counts of requests of one kind.
    #[must_use]
    pub fn requests(&self, kind: Kind) -> RequestCounts {
        let of = &self.kinds[kind as usize];
        RequestCounts {
            requests: get(&of.requests),
            bytes: get(&of.bytes),
            errors: get(&of.errors),
        }
    }

    /// How long the answered requests of one kind took that were done in one way: from the moment when the server
    /// had the whole request until it sent the reply.
    #[must_use]
    pub fn latencies(&self, kind: Kind, how: How) -> Latencies {
        self.times[kind as usize][how as usize].get()
    }

    /// The number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        get(&self.in_flight)
    }

    /// The number of invalid requests: unknown, out of bounds, or a write to a read-only export. They are
    /// included in no other count.
    #[must_use]
    pub fn invalid(&self) -> u64 {
        get(&self.invalid)
    }

    /// The number of times that spinning found the next request, so that no thread had to be woken.
    #[must_use]
    pub fn polled(&self) -> u64 {
        get(&self.polled)
    }

    pub(super) fn begun(&self) {
        add(&self.in_flight, 1);
    }

    /// `count` requests in flight end without an answer.
    pub(super) fn abandoned(&self, count: u64) {
        self.in_flight.fetch_sub(count, Ordering::Relaxed);
    }

    /// A request in flight is answered: successfully with `bytes`, or, if None, with an error.
    pub(super) fn answered(&self, kind: Kind, bytes: Option<u64>) {
        self.abandoned(1);
        let of = &self.kinds[kind as usize];
        add(&of.requests, 1);
        match bytes {
            Some(bytes) => add(&of.bytes, bytes),
            None => add(&of.errors, 1),
        }
    }

    /// `count` requests of a kind were answered, and took `time` each.
    pub(crate) fn took(&self, kind: Kind, how: How, time: Duration, count: u64) {
        self.times[kind as usize][how as usize].add(time, count);
    }

    pub(super) fn refused_request(&self) {
        add(&self.invalid, 1);
    }
}

/// The kind of a request and its length in bytes. None for a disconnect.
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

/// `Relaxed` is enough: no other memory access depends on a count.
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
    fn every_kind_is_counted_separately() {
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
