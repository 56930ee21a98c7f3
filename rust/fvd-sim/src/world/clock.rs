//! Virtual time. It advances when nothing else can happen, sometimes earlier, and slightly with every
//! operation.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fvd::host::{BoxFuture, Clock};

use super::{State, World};

/// Maximum time of an operation, in microseconds.
const LONGEST_OPERATION: u64 = 40_000;

/// The clock of a [`World`].
#[derive(Clone)]
pub struct SimClock(World);

/// The sleeping tasks and the current time.
#[derive(Default)]
pub(crate) struct Timers {
    now: Duration,
    /// With the time at which each wakes and the order in which they came.
    sleepers: Vec<Sleeper>,
    next: u64,
    /// Some task has asked for the time, so operations take time.
    used: bool,
}

struct Sleeper {
    until: Duration,
    number: u64,
    waker: Waker,
}

impl Timers {
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Advances the clock to `time`, unless it is later already.
    pub(super) fn pass_until(&mut self, time: Duration) {
        self.now = self.now.max(time);
    }
}

impl World {
    /// The clock of this world.
    #[must_use]
    pub fn clock(&self) -> SimClock {
        SimClock(self.clone())
    }

    /// Whether a task sleeps.
    #[must_use]
    pub fn has_sleepers(&self) -> bool {
        !self.state().timers.sleepers.is_empty()
    }

    /// Advances the clock until the first sleeper wakes. Returns false if no task sleeps.
    #[must_use]
    pub fn advance(&self) -> bool {
        let sleeper = self.state().next_sleeper();
        match sleeper {
            None => false,
            Some(sleeper) => {
                sleeper.waker.wake();
                true
            }
        }
    }
}

impl State {
    fn next_sleeper(&mut self) -> Option<Sleeper> {
        let timers = &mut self.timers;
        let first = (0..timers.sleepers.len()).min_by_key(|&index| {
            let sleeper = &timers.sleepers[index];
            (sleeper.until, sleeper.number)
        })?;
        let sleeper = timers.sleepers.swap_remove(first);
        timers.now = timers.now.max(sleeper.until);
        let now = timers.now.as_micros();
        self.tell(|| format!("time      {now} us"));
        Some(sleeper)
    }

    /// Advances the clock by the time that an operation takes.
    pub(super) fn pass_time(&mut self) {
        if self.timers.used {
            let time = self.rng.u64(..LONGEST_OPERATION);
            self.timers.now += Duration::from_micros(time);
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        let mut state = self.0.state();
        state.timers.used = true;
        state.timers.now
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        let until = self.now().saturating_add(time);
        Box::pin(Sleep {
            world: &self.0,
            until,
            number: None,
        })
    }
}

struct Sleep<'a> {
    world: &'a World,
    until: Duration,
    /// Its number, once it is among the sleepers.
    number: Option<u64>,
}

impl Sleep<'_> {
    fn leave(&self) {
        if let Some(number) = self.number {
            let mut state = self.world.state();
            state.timers.sleepers.retain(|sleeper| sleeper.number != number);
        }
    }
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.leave();
        let mut state = self.world.state();
        let timers = &mut state.timers;
        if timers.now >= self.until {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or(timers.next);
        timers.next = timers.next.max(number + 1);
        timers.sleepers.push(Sleeper {
            until: self.until,
            number,
            waker: context.waker().clone(),
        });
        drop(state);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::executor::Executor;

    #[test]
    fn sleepers_wake_in_order_and_no_time_passes_otherwise() {
        let world = World::seeded(1);
        let clock = world.clock();
        let woken = RefCell::new(Vec::new());
        let mut executor = Executor::new(&world, 1);
        for seconds in [30, 10, 20] {
            let (clock, woken) = (&clock, &woken);
            executor.spawn(async move {
                clock.sleep(Duration::from_secs(seconds)).await;
                woken.borrow_mut().push(clock.now().as_secs());
            });
        }
        executor.settle();
        while executor.active() > 0 {
            executor.step();
            executor.settle();
        }
        drop(executor);
        assert_eq!(woken.into_inner(), [10, 20, 30]);
        assert!(!world.has_sleepers());
    }

    #[test]
    fn a_dropped_sleep_is_not_woken() {
        let world = World::seeded(1);
        let clock = world.clock();
        let mut executor = Executor::new(&world, 1);
        let task = executor.spawn(async { clock.sleep(Duration::from_secs(1)).await });
        executor.settle();
        assert!(world.has_sleepers());
        executor.cancel(task);
        assert!(!world.has_sleepers());
        assert_eq!(clock.now(), Duration::ZERO);
    }
}
