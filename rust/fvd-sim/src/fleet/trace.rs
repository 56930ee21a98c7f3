//! A recorded boot. The format is described in `benches/boot/trace.py`, which records it.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use fvd::format::Profile;

const SECTOR: u64 = 512;
/// The unit of a profile, in bytes.
const UNIT: u64 = 4 << 10;

/// One read of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRead {
    /// In bytes of the disk.
    pub bytes: Range<u64>,
    /// The read whose end this one follows. None: the start of the machine.
    pub after: Option<usize>,
    /// From that end to the beginning of this read.
    pub thinking: Duration,
}

/// What a machine reads until it is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// In the order in which they began.
    pub reads: Vec<TraceRead>,
}

/// A line that is not a read.
#[derive(Debug, PartialEq, Eq)]
pub struct TraceError {
    /// Number of the line, from 1.
    pub line: usize,
    what: &'static str,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the trace: {}", self.line, self.what)
    }
}

impl std::error::Error for TraceError {}

impl Trace {
    /// Reads the text of a trace.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut reads = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let error = |what| TraceError { line: index + 1, what };
            let numbers: Vec<u64> = line
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()
                .map_err(|_| error("not four numbers"))?;
            let [offset, length, back, thinking] = numbers[..] else {
                return Err(error("not four numbers"));
            };
            let after = match back as usize {
                0 => None,
                back => Some(
                    reads
                        .len()
                        .checked_sub(back)
                        .ok_or_else(|| error("it follows no read"))?,
                ),
            };
            let start = offset.checked_mul(SECTOR).ok_or_else(|| error("too large"))?;
            let end = length.checked_mul(SECTOR).and_then(|length| start.checked_add(length));
            reads.push(TraceRead {
                bytes: start..end.ok_or_else(|| error("too large"))?,
                after,
                thinking: Duration::from_micros(thinking),
            });
        }
        Ok(Self { reads })
    }

    /// The trace of a machine that needs `time` on a disk that answers at once.
    #[must_use]
    pub fn lasting(&self, time: Duration) -> Self {
        let mut ends = vec![Duration::ZERO; self.reads.len()];
        for (number, read) in self.reads.iter().enumerate() {
            ends[number] = read.after.map_or(Duration::ZERO, |after| ends[after]) + read.thinking;
        }
        let now = ends.into_iter().max().unwrap_or_default();
        self.faster(now.as_secs_f64() / time.as_secs_f64())
    }

    /// The trace of a machine that thinks `times` as fast.
    #[must_use]
    pub fn faster(&self, times: f64) -> Self {
        let quick = |read: &TraceRead| TraceRead {
            thinking: read.thinking.div_f64(times),
            ..read.clone()
        };
        Self {
            reads: self.reads.iter().map(quick).collect(),
        }
    }

    /// The end of the last byte that is read.
    #[must_use]
    pub fn disk(&self) -> u64 {
        self.reads.iter().map(|read| read.bytes.end).max().unwrap_or(0)
    }

    /// What fvd records as the profile of this boot.
    #[must_use]
    pub fn profile(&self) -> Vec<Range<u64>> {
        let mut profile = Profile::new(UNIT, self.disk(), u64::MAX);
        for read in &self.reads {
            profile.add(read.bytes.clone());
        }
        profile.ranges()
    }

    /// Bytes that are read, each once, in blocks of 4 KiB.
    #[must_use]
    pub fn touched(&self) -> u64 {
        self.profile().iter().map(|range| range.end - range.start).sum()
    }

    /// The reads that follow each read, and at the end those that follow the start.
    pub(super) fn followers(&self) -> Vec<Vec<usize>> {
        let mut followers = vec![Vec::new(); self.reads.len() + 1];
        for (number, read) in self.reads.iter().enumerate() {
            followers[read.after.unwrap_or(self.reads.len())].push(number);
        }
        followers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_as_it_was_written() {
        let trace = Trace::parse("# about\n0 8 0 10\n16 1 1 20\n17 7 2 0\n").expect("valid");
        let micros = Duration::from_micros;
        let read = |bytes, after, thinking| TraceRead { bytes, after, thinking };
        assert_eq!(
            trace.reads,
            [
                read(0..4096, None, micros(10)),
                read(8192..8704, Some(0), micros(20)),
                read(8704..12288, Some(0), micros(0)),
            ]
        );
        assert_eq!(trace.profile(), [0..4096, 8192..12288]);
        assert_eq!(trace.touched(), 8192);
        assert_eq!(trace.followers(), [vec![1, 2], vec![], vec![], vec![0]]);
        assert_eq!(trace.faster(2.0).reads[1].thinking, micros(10));
        assert_eq!(trace.lasting(micros(300)).reads[1].thinking, micros(200));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, line) in [("0 8 0\n", 1), ("#\n0 8 1 0\n", 2), ("0 8 0 0\nx 1 1 1\n", 2)] {
            assert_eq!(Trace::parse(text).expect_err("wrong").line, line, "{text:?}");
        }
        assert!(Trace::parse("99999999999999999 8 0 0").is_err());
    }
}
