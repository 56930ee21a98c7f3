//! The clock that the program provides for the engine.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A boxed future, for methods of traits that must be object safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Time, from a runtime or from the simulator.
///
/// Only background work and time limits need a clock.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment. Never goes back.
    fn now(&self) -> Duration;

    /// Ends when the time has passed. May be dropped before.
    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()>;

    /// The time that threads of this process have been ready to run and had no processor, since some fixed
    /// moment. The times of several threads add up. Zero where that is not known.
    fn starved(&self) -> Duration {
        Duration::ZERO
    }
}
