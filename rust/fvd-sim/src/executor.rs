//! Runs many tasks on one thread, in an order that follows from the seed.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::world::World;

/// Tasks and the world whose operations they wait for.
pub struct Executor<'a> {
    world: World,
    rng: fastrand::Rng,
    tasks: BTreeMap<u64, Task<'a>>,
    /// How many of the tasks are not in the background.
    active: usize,
    ready: Ready,
    next: u64,
}

struct Task<'a> {
    /// Nobody waits for its end.
    in_background: bool,
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
}

/// Numbers of the tasks that are to be polled.
#[derive(Clone, Default)]
struct Ready(Arc<Mutex<Vec<u64>>>);

impl Ready {
    fn numbers(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct WakeTask {
    number: u64,
    ready: Ready,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        self.ready.numbers().push(self.number);
    }
}

impl<'a> Executor<'a> {
    /// An executor without tasks.
    #[must_use]
    pub fn new(world: &World, seed: u64) -> Self {
        Self {
            world: world.clone(),
            rng: fastrand::Rng::with_seed(seed),
            tasks: BTreeMap::new(),
            active: 0,
            ready: Ready::default(),
            next: 0,
        }
    }

    /// The world whose operations the tasks wait for.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Adds a task; gives its number.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'a) -> u64 {
        self.add(future, false)
    }

    /// Adds a task that need not end; gives its number.
    pub fn spawn_in_background(&mut self, future: impl Future<Output = ()> + 'a) -> u64 {
        self.add(future, true)
    }

    fn add(&mut self, future: impl Future<Output = ()> + 'a, in_background: bool) -> u64 {
        let number = self.next;
        self.next += 1;
        let task = Task {
            in_background,
            future: Box::pin(future),
        };
        self.tasks.insert(number, task);
        self.active += usize::from(!in_background);
        self.ready.numbers().push(number);
        number
    }

    /// Drops a task. False if it has ended already.
    pub fn cancel(&mut self, number: u64) -> bool {
        let task = self.tasks.remove(&number);
        self.active -= usize::from(task.as_ref().is_some_and(|task| !task.in_background));
        task.is_some()
    }

    /// Tasks that have not ended, without those in the background.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active
    }

    /// Whether a task has not ended.
    #[must_use]
    pub fn is_running(&self, number: u64) -> bool {
        self.tasks.contains_key(&number)
    }

    /// Polls tasks in random order until all of them wait.
    pub fn settle(&mut self) {
        loop {
            let mut numbers = std::mem::take(&mut *self.ready.numbers());
            numbers.sort_unstable();
            numbers.dedup();
            numbers.retain(|number| self.tasks.contains_key(number));
            if numbers.is_empty() {
                return;
            }
            self.rng.shuffle(&mut numbers);
            for number in numbers {
                self.poll(number);
            }
        }
    }

    fn poll(&mut self, number: u64) {
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        let ready = self.ready.clone();
        let waker = Waker::from(Arc::new(WakeTask { number, ready }));
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.cancel(number);
        }
    }

    /// Completes one operation, or lets time go on.
    ///
    /// # Panics
    ///
    /// If tasks wait although none is in flight: they wait for one another.
    pub fn step(&mut self) {
        let early = self.world.has_sleepers() && self.rng.u8(..32) == 0;
        let done = (early && self.world.advance()) || self.world.complete_one() || self.world.advance();
        assert!(
            done || self.active == 0,
            "deadlock: {} tasks wait for no I/O",
            self.active
        );
    }
}

/// Runs one future to its end, with operations of `world` that complete in random order.
///
/// # Panics
///
/// If it waits for something that is not an operation of `world`.
pub fn block_on_seeded<T>(world: &World, seed: u64, future: impl Future<Output = T>) -> T {
    let mut result = None;
    {
        let mut executor = Executor::new(world, seed);
        executor.spawn(async {
            result = Some(future.await);
        });
        executor.settle();
        while executor.active() > 0 {
            executor.step();
            executor.settle();
        }
    }
    result.expect("the task has ended")
}

/// Runs a future whose operations complete at once. It may give way, as long as it is woken at once.
///
/// # Panics
///
/// If it has to wait.
pub fn run_now<T>(future: impl Future<Output = T>) -> T {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let goes_on = woken.0.swap(false, Ordering::AcqRel);
        assert!(goes_on, "it waits, although every operation completes at once");
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
