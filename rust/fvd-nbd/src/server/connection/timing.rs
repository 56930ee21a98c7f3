//! Measures how long requests take, without reading the clock for each of them.
//!
//! Requests that arrive together are answered together: their replies are sent with one system call. So all of
//! them begin when the task was woken (or spinning has found the first), and those that need not wait end
//! when the replies are sent. A connection reads the clock at these moments anyway.

use std::time::Instant;

use fvd::aio::How;

use crate::server::counters::{Counters, Kind};

/// A request that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun(Instant);

/// The requests that are answered, and whose replies are not sent yet.
#[derive(Debug)]
pub(super) struct Timing {
    arrived: Instant,
    /// Those that arrived at that time and were done inline, by kind.
    inline: [u64; Kind::ALL.len()],
    others: Vec<(Kind, How, Begun)>,
}

impl Timing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            arrived: now,
            inline: [0; Kind::ALL.len()],
            others: Vec::new(),
        }
    }

    /// What is received from now on has arrived now.
    pub(super) fn arrive(&mut self, now: Instant) {
        self.arrived = now;
    }

    pub(super) fn begin(&self) -> Begun {
        Begun(self.arrived)
    }

    /// The request is answered.
    pub(super) fn answered(&mut self, kind: Kind, how: How, begun: Begun) {
        if how == How::Inline && begun.0 == self.arrived {
            self.inline[kind as usize] += 1;
        } else {
            self.others.push((kind, how, begun));
        }
    }

    /// The replies are sent: counts their requests.
    pub(super) fn sent(&mut self, now: Instant, counters: &Counters) {
        let time = now.saturating_duration_since(self.arrived);
        for (kind, count) in Kind::ALL.into_iter().zip(&mut self.inline) {
            if *count > 0 {
                counters.took(kind, How::Inline, time, *count);
                *count = 0;
            }
        }
        for (kind, how, begun) in self.others.drain(..) {
            counters.took(kind, how, now.saturating_duration_since(begun.0), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn requests_that_arrive_together_end_together() {
        let counters = Counters::default();
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        let mut timing = Timing::new(start);
        let slow = timing.begin();
        timing.arrive(at(100));
        for _ in 0..3 {
            let begun = timing.begin();
            timing.answered(Kind::Read, How::Inline, begun);
        }
        timing.sent(at(120), &counters);
        timing.answered(Kind::Read, How::Thread, slow);
        timing.answered(Kind::Flush, How::Inline, slow);
        timing.sent(at(2000), &counters);
        timing.sent(at(9000), &counters);
        let inline = counters.latencies(Kind::Read, How::Inline);
        assert_eq!((inline.count, inline.sum), (3, Duration::from_micros(60)));
        let thread = counters.latencies(Kind::Read, How::Thread);
        assert_eq!((thread.count, thread.sum), (1, Duration::from_millis(2)));
        assert_eq!(
            counters.latencies(Kind::Flush, How::Inline).sum,
            Duration::from_millis(2)
        );
        assert_eq!(counters.latencies(Kind::Write, How::Inline).count, 0);
    }
}
