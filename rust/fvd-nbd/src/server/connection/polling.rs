//! Looking for the next request instead of sleeping until it comes.
//!
//! A client that sends one request at a time and has its answer from memory sends the next one in
//! less time than it takes to put this thread to sleep and to wake it. So the socket is read again
//! and again, for a moment. A client with several requests under way is better served by sleeping:
//! they gather meanwhile, and are read with one system call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, yield_now};
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// From one answer to the next, at the most, where it is worth looking.
const QUICK: Duration = Duration::from_micros(150);

/// So many quick rounds, one after the other, before it is looked for the first time.
const ENOUGH: i32 = 4;

/// So many more after a client turned out to have several requests under way.
const PENALTY: i32 = 1024;

/// So long after it was woken a connection sleeps all the same. Others have their turn then. Requests
/// that are taken one by one as they come look like the only one each: those of a client that has
/// several gather meanwhile. And the thread of the runtime that waits for all sockets, which each
/// request wakes, takes the connection over: nobody waits beside the one that looks.
const SLOT: Duration = Duration::from_micros(500);

/// Whose turn it was last, of all connections of a server.
#[derive(Debug)]
pub(in crate::server) struct SpinSlots {
    connections: AtomicU64,
    last: AtomicU64,
    /// On a single processor no client could send while it is looked for.
    can_spin: bool,
}

impl Default for SpinSlots {
    fn default() -> Self {
        Self {
            connections: AtomicU64::new(0),
            last: AtomicU64::new(0),
            can_spin: available_parallelism().is_ok_and(|count| count.get() > 1),
        }
    }
}

impl SpinSlots {
    /// Takes the turn; tells whether it had been this connection's before.
    fn take(&self, connection: u64) -> bool {
        let is_same = self.last.load(Ordering::Relaxed) == connection;
        if !is_same {
            self.last.store(connection, Ordering::Relaxed);
        }
        is_same
    }
}

/// What was done between two waits for the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Requests that came.
    pub(super) requests: u64,
    /// All are answered, and the client has the answers.
    pub(super) is_over: bool,
}

/// What one attempt to read the socket has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum PollResult {
    Something,
    Nothing,
    /// The client sends no more, of which the runtime learns, too.
    End,
}

/// One connection's decision whether to look or to sleep.
#[derive(Debug)]
pub(super) struct Polling {
    window: Duration,
    slots: Arc<SpinSlots>,
    connection: u64,
    /// Quick rounds of late, if positive; else those that are still to be waited for.
    quick: i32,
    since: Instant,
    woken: Instant,
}

impl Polling {
    /// Looks for `window` at the most; zero: never.
    pub(super) fn new(window: Duration, slots: &Arc<SpinSlots>) -> Self {
        let now = Instant::now();
        Self {
            window: if slots.can_spin { window } else { Duration::ZERO },
            slots: Arc::clone(slots),
            connection: 1 + slots.connections.fetch_add(1, Ordering::Relaxed),
            quick: 0,
            since: now,
            woken: now,
        }
    }

    /// The connection has slept.
    pub(super) fn woken(&mut self, now: Instant) {
        self.woken = now;
    }

    /// Whether the next request is worth looking for, now that a round has ended.
    pub(super) fn expects(&mut self, round: Round, now: Instant) -> bool {
        // Others would have to wait meanwhile.
        let is_alone = self.slots.take(self.connection);
        let is_quick = now.saturating_duration_since(self.since) <= QUICK;
        self.since = now;
        if round.requests > 1 {
            self.quick = -PENALTY;
        } else if is_alone && is_quick && round.is_over && round.requests == 1 {
            self.quick = (self.quick + 1).min(ENOUGH);
        } else {
            self.quick = self.quick.min(0);
        }
        let is_in_slot = now.saturating_duration_since(self.woken) < SLOT;
        self.quick == ENOUGH && is_in_slot && !self.window.is_zero()
    }

    /// Repeats `attempt` until it finds something or the time is over; tells whether it did.
    pub(super) fn spin(&mut self, attempt: impl FnMut() -> Result<PollResult, Errno>) -> Result<bool, Errno> {
        self.spin_by(Instant::now, attempt)
    }

    /// As [`Polling::spin`], by another clock.
    fn spin_by(
        &mut self,
        now: impl Fn() -> Instant,
        mut attempt: impl FnMut() -> Result<PollResult, Errno>,
    ) -> Result<bool, Errno> {
        // Behind its turn others have theirs.
        let left = SLOT.saturating_sub(self.since.saturating_duration_since(self.woken));
        let window = self.window.min(left);
        loop {
            match attempt()? {
                PollResult::Something => return Ok(true),
                PollResult::End => break,
                PollResult::Nothing => {}
            }
            if now().saturating_duration_since(self.since) >= window {
                break;
            }
            // Whoever else wants this processor, the client perhaps, has it first.
            yield_now();
        }
        self.quick = 0;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const ALONE: Round = Round {
        requests: 1,
        is_over: true,
    };
    const STEP: Duration = Duration::from_micros(40);

    /// A connection of a server, and its clock.
    struct Client {
        polling: Polling,
        now: Instant,
    }

    impl Client {
        fn of(slots: &Arc<SpinSlots>) -> Self {
            let mut polling = Polling::new(Duration::from_secs(20), slots);
            polling.window = Duration::from_secs(20);
            let now = polling.since;
            Self { polling, now }
        }

        fn round(&mut self, round: Round) -> bool {
            self.now += STEP;
            self.polling.expects(round, self.now)
        }

        /// Looks; each attempt takes a microsecond.
        fn spin(&mut self, mut attempt: impl FnMut() -> Result<PollResult, Errno>) -> Result<bool, Errno> {
            let now = Cell::new(self.polling.since);
            self.polling.spin_by(
                || now.get(),
                || {
                    now.set(now.get() + Duration::from_micros(1));
                    attempt()
                },
            )
        }

        /// Rounds until it looks.
        fn patience(&mut self) -> i32 {
            let found = (1..2000).find(|_| {
                self.polling.woken(self.now);
                self.round(ALONE)
            });
            found.expect("it looks at last")
        }
    }

    #[test]
    fn a_client_with_one_request_at_a_time_is_looked_for_and_one_that_stays_away_no_more() {
        let mut client = Client::of(&Arc::default());
        // The first turn is not known to be its own.
        assert_eq!(client.patience(), 1 + ENOUGH);
        assert!(client.round(ALONE), "it goes on");
        let mut tries = 0;
        let found = client.spin(|| {
            tries += 1;
            Ok(if tries == 3 {
                PollResult::Something
            } else {
                PollResult::Nothing
            })
        });
        assert_eq!(found, Ok(true));
        assert!(client.round(ALONE));
        client.polling.window = Duration::from_micros(1);
        assert_eq!(client.spin(|| Ok(PollResult::Nothing)), Ok(false));
        assert_eq!(client.patience(), ENOUGH);
        assert_eq!(client.spin(|| Ok(PollResult::End)), Ok(false));
        assert_eq!(client.patience(), ENOUGH);
        let reset = Err(Errno::CONNRESET);
        assert_eq!(client.spin(|| reset), Err(Errno::CONNRESET));
    }

    #[test]
    fn nobody_looks_for_longer_than_a_turn() {
        let mut client = Client::of(&Arc::default());
        client.patience();
        client.polling.woken = client.polling.since;
        let mut tries = 0;
        let found = client.spin(|| {
            tries += 1;
            Ok(PollResult::Nothing)
        });
        assert_eq!(found, Ok(false));
        assert_eq!(tries, SLOT.as_micros());
    }

    #[test]
    fn nobody_looks_for_a_client_that_is_slow_sends_several_or_waits_for_the_disk() {
        let mut client = Client::of(&Arc::default());
        let several = Round { requests: 2, ..ALONE };
        let waits = Round {
            is_over: false,
            ..ALONE
        };
        for _ in 0..3 {
            client.patience();
            assert!(!client.round(waits));
            assert_eq!(client.patience(), ENOUGH);
            client.now += 2 * QUICK;
            assert!(!client.round(ALONE));
            assert_eq!(client.patience(), ENOUGH);
            assert!(!client.round(several));
            assert_eq!(client.patience(), PENALTY + ENOUGH);
        }
    }

    #[test]
    fn after_a_while_a_round_ends_with_a_sleep() {
        let mut client = Client::of(&Arc::default());
        client.patience();
        client.polling.woken(client.now);
        let looks = (0..100).take_while(|_| client.round(ALONE)).count();
        assert_eq!(looks as u128, (SLOT.as_micros() - 1) / STEP.as_micros());
        assert!(!client.round(ALONE));
        client.polling.woken(client.now);
        assert!(client.round(ALONE));
    }

    #[test]
    fn nobody_looks_while_others_have_their_turns() {
        let slots = Arc::default();
        let (mut one, mut other) = (Client::of(&slots), Client::of(&slots));
        for _ in 0..20 {
            assert!(!one.round(ALONE) && !other.round(ALONE));
        }
        assert_eq!(one.patience(), 1 + ENOUGH, "the other one is silent");
    }

    #[test]
    fn no_time_is_never() {
        let mut client = Client::of(&Arc::default());
        client.polling.window = Duration::ZERO;
        assert!((0..100).all(|_| !client.round(ALONE)));
    }
}
