//! Time, and sleepers that a thread each wakes: good enough for a benchmark.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use fvd::host::{BoxFuture, Clock};

pub(crate) struct ThreadClock(Instant);

impl ThreadClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

#[derive(Default)]
struct Alarm {
    over: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Alarm {
    fn waker(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ThreadClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        let alarm = Arc::new(Alarm::default());
        let sleeper = Arc::clone(&alarm);
        thread::spawn(move || {
            thread::sleep(time);
            sleeper.over.store(true, Ordering::Release);
            if let Some(waker) = sleeper.waker().take() {
                waker.wake();
            }
        });
        Box::pin(poll_fn(move |context| {
            *alarm.waker() = Some(context.waker().clone());
            if alarm.over.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            Poll::Pending
        }))
    }
}
