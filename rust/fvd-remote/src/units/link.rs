//! How much may be under way for prefetch while readers wait (R9).
//!
//! Pure: time is passed in. A link holds `rate * round trip` bytes. What is sent beyond that waits in a queue of
//! the network, and the next read of a guest waits after it. The rate is the best of the last seconds. The round
//! trip is the shortest time of late in which a request brought its first unit.

use std::collections::VecDeque;
use std::time::Duration;

/// The rate is measured over this time.
const SLOT: Duration = Duration::from_millis(100);
/// Slots that are remembered: 5 s.
const SLOTS: usize = 50;
/// The shortest time is remembered this long, and at most twice this long.
const ROUND_TRIPS: Duration = Duration::from_secs(10);
/// Readers count as waiting for this long after one has asked.
const ACTIVE: Duration = Duration::from_secs(1);
/// As many bytes may be under way even if nothing is known: two units.
const LEAST: u64 = 512 << 10;

/// What is known of the way to the stores.
#[derive(Debug, Default)]
pub struct Link {
    /// The slot that runs, and its bytes.
    slot: u64,
    bytes: u64,
    /// The bytes of the slots before, the last one at the end.
    before: VecDeque<u64>,
    /// The shortest times of this window and of the one before.
    shortest: [Option<Duration>; 2],
    window: u64,
    /// When a reader asked last for what is not in memory.
    demanded: Option<Duration>,
}

impl Link {
    /// A reader waits for what is not in memory.
    pub fn demanded(&mut self, now: Duration) {
        self.demanded = Some(now);
    }

    /// `bytes` have come.
    pub fn arrived(&mut self, now: Duration, bytes: u64) {
        let slot = number(now, SLOT);
        if slot > self.slot {
            self.before.push_back(self.bytes);
            // Slots without bytes.
            let idle = (slot - self.slot - 1).min(SLOTS as u64) as usize;
            self.before.extend(std::iter::repeat_n(0, idle));
            self.before.drain(..self.before.len().saturating_sub(SLOTS));
            (self.slot, self.bytes) = (slot, 0);
        }
        self.bytes += bytes;
    }

    /// A request has brought its first unit after `time`.
    pub fn answered(&mut self, now: Duration, time: Duration) {
        let window = number(now, ROUND_TRIPS);
        if window > self.window {
            let is_next = window == self.window + 1;
            self.shortest = [None, self.shortest[0].filter(|_| is_next)];
            self.window = window;
        }
        self.shortest[0] = Some(self.shortest[0].map_or(time, |shortest| shortest.min(time)));
    }

    /// Bytes that may be under way for prefetch. None: no reader waits, so there is no limit. `is_demanded`: a
    /// request is under way for a reader, who may have asked long ago.
    #[must_use]
    pub fn room(&self, now: Duration, is_demanded: bool) -> Option<u64> {
        let has_asked = |asked| now.saturating_sub(asked) < ACTIVE;
        if !is_demanded && !self.demanded.is_some_and(has_asked) {
            return None;
        }
        let most = self.before.iter().copied().chain([self.bytes]).max().unwrap_or(0);
        let shortest = self.shortest.iter().flatten().min().copied().unwrap_or_default();
        // Twice what the link holds: less would never find out that the link is faster.
        let room = 2 * u128::from(most) * shortest.as_micros() / SLOT.as_micros();
        Some(u64::try_from(room).unwrap_or(u64::MAX).max(LEAST))
    }
}

fn number(now: Duration, length: Duration) -> u64 {
    (now.as_micros() / length.as_micros()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const UNIT: u64 = 256 << 10;

    /// How long the link needs for a unit.
    fn transfer(rate: u64) -> Duration {
        Duration::from_nanos(UNIT * 1_000_000_000 / rate)
    }

    /// Prefetch over a link, as fast as [`Link::room`] allows, while readers wait. Returns the bytes a second, and
    /// how long the last unit waited in the queue of the network.
    fn run(rate: u64, round_trip: Duration, time: Duration) -> (u64, Duration) {
        let mut link = Link::default();
        let transfer = transfer(rate);
        let (mut now, mut free_at, mut bytes) = (Duration::ZERO, Duration::ZERO, 0);
        let mut under_way: VecDeque<(Duration, Duration)> = VecDeque::new();
        let mut queued = Duration::ZERO;
        while now < time {
            link.demanded(now);
            while under_way.len() as u64 * UNIT + UNIT <= link.room(now, false).expect("readers wait") {
                let begins = free_at.max(now + round_trip);
                queued = begins.saturating_sub(now + round_trip);
                free_at = begins + transfer;
                under_way.push_back((now, free_at));
            }
            let (sent, comes) = under_way.pop_front().expect("there is always room for a unit");
            now = comes;
            bytes += UNIT;
            link.arrived(now, UNIT);
            link.answered(now, now.saturating_sub(sent));
        }
        (bytes * 1000 / time.as_millis() as u64, queued)
    }

    #[test]
    fn prefetch_beside_readers_fills_the_link_and_no_queue() {
        for (rate, ms) in [
            (12_500_000, 30),
            (125_000_000, 20),
            (125_000_000, 100),
            (1_250_000_000, 5),
        ] {
            let round_trip = ms * MS;
            let (reached, queued) = run(rate, round_trip, Duration::from_secs(10));
            assert!(reached > rate / 10 * 8, "{reached} of {rate}");
            assert!(
                queued < 3 * (round_trip + transfer(rate)),
                "{queued:?} at {rate} B/s and {ms} ms"
            );
        }
    }

    #[test]
    fn without_readers_there_is_no_limit() {
        let mut link = Link::default();
        assert_eq!(link.room(Duration::ZERO, false), None);
        link.demanded(1000 * MS);
        assert_eq!(link.room(1999 * MS, false), Some(LEAST));
        assert_eq!(link.room(2000 * MS, false), None);
        assert_eq!(link.room(9000 * MS, true), Some(LEAST), "a reader still waits");
    }

    #[test]
    fn what_a_link_could_do_is_forgotten() {
        let mut link = Link::default();
        let now = 100_000 * MS;
        link.demanded(now);
        link.arrived(10 * MS, 100 << 20);
        link.answered(10 * MS, 30 * MS);
        link.arrived(now, UNIT);
        link.answered(now, 20 * MS);
        assert_eq!(link.room(now, false), Some(LEAST));
    }
}
