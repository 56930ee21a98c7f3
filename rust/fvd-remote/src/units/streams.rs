//! Finds sequential readers, and how far to read ahead of each.

use std::collections::VecDeque;
use std::ops::Range;

use crate::fetch::UNIT;

/// Readers of one object that are told apart.
const STREAMS: usize = 8;

/// Bytes that are worth a request.
const STEP: u64 = 1 << 20;

/// The sequential readers of an object.
#[derive(Debug, Default)]
pub struct Streams(VecDeque<Stream>);

#[derive(Debug)]
struct Stream {
    /// Where the next read is expected, in bytes.
    next: u64,
    /// How far to read ahead, in bytes.
    window: u64,
    /// Up to where it has been read ahead, in bytes.
    fetched: u64,
}

impl Streams {
    /// A read of `range`. Returns what to fetch beyond it, in bytes; may be empty. `limit`: the largest window.
    pub fn read(&mut self, range: &Range<u64>, limit: u64) -> Range<u64> {
        // Readers with several requests in flight are a little out of order.
        let near = |stream: &Stream| range.start <= stream.next + UNIT && range.start + UNIT >= stream.next;
        let found = self.0.iter().position(near).and_then(|at| self.0.remove(at));
        let mut stream = found.unwrap_or(Stream {
            next: range.end,
            window: 0,
            fetched: range.end,
        });
        // Many reads in one unit are no sign of a sequential reader. Those that go on to the next are.
        if range.end.div_ceil(UNIT) > stream.next.div_ceil(UNIT) {
            stream.window = (stream.window * 2).clamp(UNIT, UNIT.max(limit)).min(limit);
        }
        stream.next = stream.next.max(range.end);
        stream.fetched = stream.fetched.max(stream.next);
        let mut ahead = stream.fetched..stream.fetched;
        // Not unit by unit: fewer and longer requests. Not all at once: something is always under way.
        let step = (stream.window / 4).max(STEP.min(stream.window / 2));
        if stream.fetched - stream.next <= stream.window - step {
            ahead.end = ahead.end.max(stream.next + stream.window);
            stream.fetched = ahead.end;
        }
        self.0.push_front(stream);
        self.0.truncate(STREAMS);
        ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 8 << 20;

    #[test]
    fn a_sequential_reader_gets_a_window_that_grows_to_the_limit() {
        let mut streams = Streams::default();
        let mut longest = 0;
        let mut fetched = 0;
        for i in 0..4000 {
            let read = i * 65536..(i + 1) * 65536;
            let ahead = streams.read(&read, LIMIT);
            assert!(ahead.is_empty() || ahead.start >= fetched, "nothing is asked for twice");
            fetched = fetched.max(ahead.end);
            longest = longest.max(fetched.saturating_sub(read.end));
        }
        assert_eq!(longest, LIMIT);
    }

    #[test]
    fn random_reads_fetch_nothing_ahead() {
        let mut streams = Streams::default();
        for i in 0..1000_u64 {
            let start = i.wrapping_mul(7_919) % 4096 * (1 << 20);
            assert!(streams.read(&(start..start + 4096), LIMIT).is_empty());
        }
    }

    #[test]
    fn small_reads_in_one_unit_fetch_nothing_ahead() {
        let mut streams = Streams::default();
        for i in 0..64 {
            assert!(streams.read(&(i * 4096..(i + 1) * 4096), LIMIT).is_empty());
        }
    }

    #[test]
    fn two_sequential_readers_have_a_window_each() {
        let mut streams = Streams::default();
        let mut ahead = [0, 0];
        for i in 0..100 {
            for (reader, base) in [0, 1 << 40].into_iter().enumerate() {
                let start = base + i * UNIT;
                ahead[reader] += u64::from(!streams.read(&(start..start + UNIT), LIMIT).is_empty());
            }
        }
        assert!(ahead[0] > 5 && ahead[0] == ahead[1], "{ahead:?}");
    }

    #[test]
    fn a_window_of_zero_fetches_nothing_ahead() {
        let mut streams = Streams::default();
        assert!((0..100).all(|i| streams.read(&(i * UNIT..(i + 1) * UNIT), 0).is_empty()));
    }
}
