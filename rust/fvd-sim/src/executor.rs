//! Runs many tasks on one thread, in an order that depends only on the seed.

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
    /// No task waits for its end.
    in_background: bool,
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
}

/// Numbers of the tasks to poll next.
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

    /// Adds a task. Returns its number.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'a) -> u64 {
        self.add(future, false)
    }

    /// Adds a background task, which need not end. Returns its number.
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

    /// Drops a task. Returns false if it had ended already.
    pub fn cancel(&mut self, number: u64) -> bool {
        let task = self.tasks.remove(&number);
        self.active -= usize::from(task.as_ref().is_some_and(|task| !task.in_background));
        task.is_some()
    }

    /// The number of tasks that have not ended, without background tasks.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active
    }

    /// Whether a task has not ended.
    #[must_use]
    pub fn is_running(&self, number: u64) -> bool {
        self.tasks.contains_key(&number)
    }

    /// Polls ready tasks in random order until every task waits.
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

    /// Completes one operation, or advances the clock to the next sleeper.
    ///
    /// # Panics
    ///
    /// If tasks wait although no operation is in flight and no task sleeps: a deadlock.
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

/// Runs a future whose operations complete at once. The future may yield if it wakes itself.
///
/// # Panics
///
/// If the future waits for anything.
pub fn run_now<T>(future: impl Future<Output = T>) -> T {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let was_woken = woken.0.swap(false, Ordering::AcqRel);
        assert!(was_woken, "it waits, although every operation completes at once");
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
