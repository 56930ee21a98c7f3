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

/// From one answer to the next, at the most, where it is worth looking.
const QUICK: Duration = Duration::from_micros(150);

/// So many quick rounds, one after the other, before it is looked for the first time.
const ENOUGH: i32 = 4;

/// So many more after a client turned out to have several requests under way.
const PENALTY: i32 = 1024;

/// Of so many looks, one begins late: requests that come one by one look like the only one each, as
/// long as each is taken as it comes.
const PROBE: u32 = 32;

/// From the last answer to the beginning of such a look.
const GATHER: Duration = Duration::from_micros(20);

/// Whose turn it was last, of all connections of a server.
#[derive(Debug, Default)]
pub(in crate::server) struct Turns {
    connections: AtomicU64,
    last: AtomicU64,
}

impl Turns {
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
pub(in crate::server) enum Found {
    Something,
    Nothing,
    /// There is something to be told that is no data.
    Trouble,
}

/// One connection's decision whether to look or to sleep.
#[derive(Debug)]
pub(super) struct Polling {
    window: Duration,
    turns: Arc<Turns>,
    connection: u64,
    /// Quick rounds of late, if positive; else those that are still to be waited for.
    quick: i32,
    since: Instant,
    looks: u32,
}

impl Polling {
    /// Looks for `window` at the most; zero: never.
    pub(super) fn new(window: Duration, turns: &Arc<Turns>) -> Self {
        // On a single processor the client could not send meanwhile.
        let is_alone = available_parallelism().is_ok_and(|count| count.get() == 1);
        Self {
            window: if is_alone { Duration::ZERO } else { window },
            turns: Arc::clone(turns),
            connection: 1 + turns.connections.fetch_add(1, Ordering::Relaxed),
            quick: 0,
            looks: 0,
            since: Instant::now(),
        }
    }

    /// Whether the next request is worth looking for, now that a round has ended.
    pub(super) fn expects(&mut self, round: Round, now: Instant) -> bool {
        // Others would have to wait meanwhile.
        let is_alone = self.turns.take(self.connection);
        let is_quick = now.saturating_duration_since(self.since) <= QUICK;
        self.since = now;
        if round.requests > 1 {
            self.quick = -PENALTY;
            self.looks = 0;
        } else if is_alone && is_quick && round.is_over && round.requests == 1 {
            self.quick = (self.quick + 1).min(ENOUGH);
        } else {
            self.quick = self.quick.min(0);
        }
        self.quick == ENOUGH && !self.window.is_zero()
    }

    /// Repeats `attempt` until it finds something or the time is over; tells whether it did.
    pub(super) fn look(&mut self, mut attempt: impl FnMut() -> Found) -> bool {
        if self.looks.is_multiple_of(PROBE) {
            self.gather();
        }
        self.looks = self.looks.wrapping_add(1);
        loop {
            match attempt() {
                Found::Something => return true,
                Found::Trouble => break,
                Found::Nothing => {}
            }
            if self.since.elapsed() >= self.window {
                break;
            }
            // Whoever else wants this processor, the client perhaps, has it first.
            yield_now();
        }
        self.quick = 0;
        self.looks = 0;
        false
    }

    /// Gives a client that has several requests under way the time to show it.
    fn gather(&self) {
        while self.since.elapsed() < GATHER.min(self.window) {
            yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
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
        fn of(turns: &Arc<Turns>) -> Self {
            let mut polling = Polling::new(Duration::from_secs(20), turns);
            polling.window = Duration::from_secs(20);
            let now = polling.since;
            Self { polling, now }
        }

        fn round(&mut self, round: Round) -> bool {
            self.now += STEP;
            self.polling.expects(round, self.now)
        }

        /// Rounds until it looks.
        fn patience(&mut self) -> i32 {
            (1..2000).find(|_| self.round(ALONE)).expect("it looks at last")
        }
    }

    #[test]
    fn a_client_with_one_request_at_a_time_is_looked_for_and_one_that_stays_away_no_more() {
        let mut client = Client::of(&Arc::default());
        // The first turn is not known to be its own.
        assert_eq!(client.patience(), 1 + ENOUGH);
        assert!(client.round(ALONE), "it goes on");
        let mut tries = 0;
        let found = client.polling.look(|| {
            tries += 1;
            if tries == 3 { Found::Something } else { Found::Nothing }
        });
        assert!(found && client.round(ALONE));
        client.polling.window = Duration::from_micros(1);
        assert!(!client.polling.look(|| Found::Nothing));
        assert_eq!(client.patience(), ENOUGH);
        assert!(!client.polling.look(|| Found::Trouble));
        assert_eq!(client.patience(), ENOUGH);
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
            assert!(client.patience() >= ENOUGH);
            assert!(!client.round(several));
            assert_eq!(client.patience(), ENOUGH);
            assert!(!client.round(waits));
            assert_eq!(client.patience(), ENOUGH);
            client.now += 2 * QUICK;
            assert!(!client.round(ALONE));
        }
    }

    #[test]
    fn a_request_that_was_there_before_the_last_answer_ends_it_for_long() {
        let mut client = Client::of(&Arc::default());
        client.patience();
        assert!(client.polling.look(|| Found::Something));
        assert_eq!(client.patience(), PENALTY + ENOUGH);
    }

    #[test]
    fn nobody_looks_while_others_have_their_turns() {
        let turns = Arc::default();
        let (mut one, mut other) = (Client::of(&turns), Client::of(&turns));
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
