//! Spinning for the next request instead of sleeping until it arrives.
//!
//! A client that sends one request at a time, and gets its answer from memory, sends its next request in less
//! time than it takes to put this thread to sleep and wake it. So the connection spins: for a short time it
//! reads the socket again and again. For a client with several requests in flight it is better to sleep:
//! several requests then arrive in the meantime and are read with one system call. See docs/design/nbd.md,
//! "Busy-polling".
//!
//! A *round* is what happens between two waits for the client, asleep or spinning. A *slot* is the right to
//! spin: it belongs to the connection that ended the latest round, and lasts for [`SLOT`] after that
//! connection was woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, yield_now};
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// A round is quick if it takes at most this long, measured from the end of the previous round.
const QUICK: Duration = Duration::from_micros(150);

/// The number of consecutive quick rounds after which the connection spins.
const QUICK_ROUNDS: i32 = 4;

/// The number of additional quick rounds that are needed after the client had several requests in flight.
const PENALTY: i32 = 1024;

/// The length of a slot: this long after it was woken, a connection sleeps even if it could still spin. There
/// are three reasons:
///
/// 1. Other connections and tasks get the thread.
/// 2. While the connection spins, it takes requests one by one as they arrive, so a client with several
///    requests in flight looks like one that sends one at a time. During the sleep its requests gather, which
///    reveals it.
/// 3. While one thread spins, the runtime thread that waits for all sockets is woken by every request for
///    nothing. After the sleep, that thread runs the connection, and no second thread is woken.
const SLOT: Duration = Duration::from_micros(500);

/// A yield that takes longer has given the processor to work that uses up its turn, which no client with one
/// request in flight does. A thread that sleeps instead is run at once when it is woken.
const LONG_YIELD: Duration = Duration::from_micros(250);

/// How long a connection does not spin after a long yield, and at most after several in a row. One long yield
/// means little: some thread ran for a moment. If others want the processor all the time, all yields are long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Which connection had the last slot, of all connections of a server.
#[derive(Debug)]
pub(in crate::server) struct SpinSlots {
    /// The number of connections so far; gives each its number.
    connections: AtomicU64,
    /// The number of the connection that had the last slot; 0: none.
    last: AtomicU64,
    /// False on a single CPU: a client could not run, and so not send anything, while the server spins.
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
    /// Takes the slot for `connection`. Returns whether the previous slot was also its own.
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
    /// The number of requests that arrived.
    pub(super) requests: u64,
    /// All of them are answered, and the answers are sent.
    pub(super) is_over: bool,
}

/// The result of one attempt to read the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum PollResult {
    Something,
    Nothing,
    /// The client sends no more. The runtime reports this too, so nothing is done here.
    End,
}

/// Decides for one connection whether to spin or to sleep.
#[derive(Debug)]
pub(super) struct Polling {
    window: Duration,
    slots: Arc<SpinSlots>,
    /// The number of this connection.
    connection: u64,
    /// If positive, the number of the latest consecutive quick rounds. If negative, the number of quick
    /// rounds that are still needed to work off the penalty.
    quick: i32,
    /// When the last round ended.
    since: Instant,
    /// When the connection's task was last woken.
    woken: Instant,
    /// No spinning before this time, because others want the processor.
    resume_at: Instant,
    /// The last such pause.
    pause: Duration,
}

impl Polling {
    /// Spins for at most `window`; zero disables spinning.
    pub(super) fn new(window: Duration, slots: &Arc<SpinSlots>) -> Self {
        let now = Instant::now();
        Self {
            window: if slots.can_spin { window } else { Duration::ZERO },
            slots: Arc::clone(slots),
            connection: 1 + slots.connections.fetch_add(1, Ordering::Relaxed),
            quick: 0,
            since: now,
            woken: now,
            resume_at: now,
            pause: Duration::ZERO,
        }
    }

    /// Must be called when the connection's task is woken: its slot starts now.
    pub(super) fn woken(&mut self, now: Instant) {
        self.woken = now;
    }

    /// Must be called at the end of a round. Returns whether to spin for the next request.
    pub(super) fn expects(&mut self, round: Round, now: Instant) -> bool {
        // If another connection had the last slot, it would have to wait while this one spins.
        let is_alone = self.slots.take(self.connection);
        let is_quick = now.saturating_duration_since(self.since) <= QUICK;
        self.since = now;
        if round.requests > 1 {
            self.quick = -PENALTY;
        } else if is_alone && is_quick && round.is_over && round.requests == 1 {
            self.quick = (self.quick + 1).min(QUICK_ROUNDS);
        } else {
            self.quick = self.quick.min(0);
        }
        let is_in_slot = now.saturating_duration_since(self.woken) < SLOT;
        self.quick == QUICK_ROUNDS && is_in_slot && !self.window.is_zero() && now >= self.resume_at
    }

    /// Repeats `attempt` until it finds something or the time is over. Returns whether it found something.
    pub(super) fn spin(&mut self, attempt: impl FnMut() -> Result<PollResult, Errno>) -> Result<bool, Errno> {
        self.spin_by(Instant::now, yield_now, attempt)
    }

    /// Like [`Polling::spin`], with a given clock and scheduler.
    fn spin_by(
        &mut self,
        now: impl Fn() -> Instant,
        yield_now: impl Fn(),
        mut attempt: impl FnMut() -> Result<PollResult, Errno>,
    ) -> Result<bool, Errno> {
        // Spinning must not go on after the end of the slot.
        let left = SLOT.saturating_sub(self.since.saturating_duration_since(self.woken));
        let window = self.window.min(left);
        loop {
            match attempt()? {
                PollResult::Something => return Ok(true),
                PollResult::End => break,
                PollResult::Nothing => {}
            }
            let before = now();
            if before.saturating_duration_since(self.since) >= window {
                break;
            }
            // Let other threads run on this CPU first, possibly the client.
            yield_now();
            let after = now();
            if after.saturating_duration_since(before) > LONG_YIELD {
                self.make_way(after);
                break;
            }
        }
        self.quick = 0;
        Ok(false)
    }

    /// Others want the processor: sleeps instead of spinning for a while.
    fn make_way(&mut self, now: Instant) {
        let is_again = now.saturating_duration_since(self.resume_at) < self.pause;
        self.pause = if is_again {
            (2 * self.pause).min(LONGEST_PAUSE)
        } else {
            FIRST_PAUSE
        };
        self.resume_at = now + self.pause;
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

    /// A connection of a server, with a simulated clock.
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

        /// Spins. Each attempt takes a microsecond.
        fn spin(&mut self, mut attempt: impl FnMut() -> Result<PollResult, Errno>) -> Result<bool, Errno> {
            let now = Cell::new(self.polling.since);
            self.polling.spin_by(
                || now.get(),
                || {},
                || {
                    now.set(now.get() + Duration::from_micros(1));
                    attempt()
                },
            )
        }

        /// The number of rounds until it spins.
        fn rounds_until_spin(&mut self) -> i32 {
            let found = (1..2000).find(|_| {
                self.polling.woken(self.now);
                self.round(ALONE)
            });
            found.expect("it looks at last")
        }
    }

    #[test]
    fn it_spins_for_sequential_requests_until_one_is_late() {
        let mut client = Client::of(&Arc::default());
        // In the first round, the previous slot was not its own.
        assert_eq!(client.rounds_until_spin(), 1 + QUICK_ROUNDS);
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
        assert_eq!(client.rounds_until_spin(), QUICK_ROUNDS);
        assert_eq!(client.spin(|| Ok(PollResult::End)), Ok(false));
        assert_eq!(client.rounds_until_spin(), QUICK_ROUNDS);
        let reset = Err(Errno::CONNRESET);
        assert_eq!(client.spin(|| reset), Err(Errno::CONNRESET));
    }

    #[test]
    fn spinning_ends_with_the_slot() {
        let mut client = Client::of(&Arc::default());
        client.rounds_until_spin();
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
    fn it_does_not_spin_for_slow_parallel_or_waiting_requests() {
        let mut client = Client::of(&Arc::default());
        let several = Round { requests: 2, ..ALONE };
        let waits = Round {
            is_over: false,
            ..ALONE
        };
        for _ in 0..3 {
            client.rounds_until_spin();
            assert!(!client.round(waits));
            assert_eq!(client.rounds_until_spin(), QUICK_ROUNDS);
            client.now += 2 * QUICK;
            assert!(!client.round(ALONE));
            assert_eq!(client.rounds_until_spin(), QUICK_ROUNDS);
            assert!(!client.round(several));
            assert_eq!(client.rounds_until_spin(), PENALTY + QUICK_ROUNDS);
        }
    }

    #[test]
    fn a_connection_sleeps_after_its_slot() {
        let mut client = Client::of(&Arc::default());
        client.rounds_until_spin();
        client.polling.woken(client.now);
        let spins = (0..100).take_while(|_| client.round(ALONE)).count();
        assert_eq!(spins as u128, (SLOT.as_micros() - 1) / STEP.as_micros());
        assert!(!client.round(ALONE));
        client.polling.woken(client.now);
        assert!(client.round(ALONE));
    }

    #[test]
    fn connections_that_alternate_do_not_spin() {
        let slots = Arc::default();
        let (mut one, mut other) = (Client::of(&slots), Client::of(&slots));
        for _ in 0..20 {
            assert!(!one.round(ALONE) && !other.round(ALONE));
        }
        assert_eq!(one.rounds_until_spin(), 1 + QUICK_ROUNDS, "the other one is silent");
    }

    #[test]
    fn after_a_long_yield_it_sleeps_for_a_while() {
        let mut client = Client::of(&Arc::default());
        for pause in [5, 10, 20, 40, 80, 160, 200, 200] {
            client.rounds_until_spin();
            client.polling.woken = client.polling.since;
            let now = Cell::new(client.now);
            let burn = || now.set(now.get() + 3 * LONG_YIELD);
            let found = client.polling.spin_by(|| now.get(), burn, || Ok(PollResult::Nothing));
            assert_eq!(found, Ok(false));
            let end = now.get() + Duration::from_millis(pause);
            client.now = now.get();
            while client.now + STEP < end {
                client.polling.woken(client.now);
                assert!(!client.round(ALONE), "{pause}");
            }
        }
    }

    #[test]
    fn a_window_of_zero_disables_spinning() {
        let mut client = Client::of(&Arc::default());
        client.polling.window = Duration::ZERO;
        assert!((0..100).all(|_| !client.round(ALONE)));
    }
}
