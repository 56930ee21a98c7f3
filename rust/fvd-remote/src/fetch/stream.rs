//! The body of an answer, cut into units.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::select;

use super::{Fetcher, Head, Sink, StoreState, Trouble, UNIT};
use crate::counters::Tally;
use crate::fault::fault;
use crate::transport::{Body, Failure, FailureKind};

/// Collects the pieces of a body into units.
struct Assembly<'a> {
    sink: &'a dyn Sink,
    store: &'a StoreState,
    /// Where the next piece lies in the object.
    offset: u64,
    /// What is wanted of the answer.
    wanted: Range<u64>,
    /// The end of what was asked for. The answer may be shorter.
    end: u64,
    unit: BytesMut,
}

impl Assembly<'_> {
    /// How many units are complete now.
    fn feed(&mut self, mut piece: Bytes) -> usize {
        let before = self.wanted.start.saturating_sub(self.offset).min(piece.len() as u64);
        self.offset += before;
        piece = piece.slice(before as usize..);
        let mut units = 0;
        while !piece.is_empty() && self.offset < self.wanted.end {
            let index = self.offset / UNIT;
            // Not of the answer: a part of a unit is worth nothing.
            let end = ((index + 1) * UNIT).min(self.end);
            let count = (end - self.offset).min(piece.len() as u64);
            if self.unit.capacity() == 0 {
                self.unit.reserve((end - self.offset) as usize);
            }
            self.unit.extend_from_slice(&piece.split_to(count as usize));
            self.offset += count;
            if self.offset == end {
                if fault!(ShiftedAfterCut) && self.store.outage().is_some() {
                    self.unit.rotate_left(1);
                }
                // Before a reader sees it: what it then asks about the store is true.
                self.store.succeeded();
                self.sink.put(index, self.unit.split().freeze());
                self.unit = BytesMut::new();
                units += 1;
            }
        }
        units
    }
}

impl Fetcher {
    /// Puts the units of the answer into `sink`.
    pub(super) async fn stream(&self, head: Head, range: &Range<u64>, sink: &dyn Sink) -> Result<(), Trouble> {
        let Head { mut answer, data, sent } = head;
        let end = range.end.min(data.range.end);
        let mut assembly = Assembly {
            sink,
            store: &self.store,
            offset: data.range.start,
            wanted: range.start..end,
            end: range.end,
            unit: BytesMut::new(),
        };
        let clock = &self.store.clock;
        let mut window = Window::new(self);
        // The longest time without a unit: what a second request would be sent for.
        let (mut before, mut longest) = (sent, Duration::ZERO);
        while assembly.offset < data.range.end {
            let Some(piece) = self.next(&mut *answer.body, &mut window).await? else {
                break;
            };
            Tally::add(&self.store.tally.bytes, piece.len() as u64);
            if assembly.feed(piece) > 0 {
                let now = clock.now();
                longest = longest.max(now.saturating_sub(before));
                before = now;
            }
            if assembly.offset >= end && data.range.end > end {
                // The rest of a whole file that is not wanted. The connection is not worth more.
                return Ok(());
            }
        }
        self.store.hedges.record(longest);
        if assembly.offset < data.range.end {
            return Err(Trouble::Retry {
                text: "the answer ended too early".to_owned(),
                demanded: None,
            });
        }
        // The end of the answer, so that the connection can be used again. Nothing depends on it.
        _ = self.limit(answer.body.next()).await;
        Ok(())
    }

    async fn next(&self, body: &mut dyn Body, window: &mut Window) -> Result<Option<Bytes>, Failure> {
        let clock = &self.store.clock;
        let next = body.next();
        tokio::pin!(next);
        loop {
            let rest = window.end.saturating_sub(clock.now());
            select! {
                biased;
                piece = &mut next => {
                    let piece = piece?;
                    window.bytes += piece.as_ref().map_or(0, Bytes::len) as u64;
                    return Ok(piece);
                }
                () = clock.sleep(rest) => window.turn(self)?,
            }
        }
    }
}

/// The time in which a body has to bring something.
struct Window {
    end: Duration,
    bytes: u64,
}

impl Window {
    fn new(fetcher: &Fetcher) -> Self {
        Self {
            end: fetcher.store.clock.now() + fetcher.store.tuning.progress_timeout,
            bytes: 0,
        }
    }

    /// A window has ended. Fails if it has brought too little.
    fn turn(&mut self, fetcher: &Fetcher) -> Result<(), Failure> {
        let tuning = &fetcher.store.tuning;
        if self.bytes < tuning.progress_bytes {
            let seconds = tuning.progress_timeout.as_secs_f64();
            let text = format!("the server has sent {} bytes in {seconds:.1} s", self.bytes);
            return Err(Failure::new(FailureKind::Silent, text));
        }
        *self = Self::new(fetcher);
        Ok(())
    }
}
