//! What the host lends the engine besides storage.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A boxed future, where an implementation is chosen at run time: such methods must be object safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Time, as the host measures it: a runtime's, or the simulator's.
///
/// Only what works in the background, and what gives up after a while, needs one.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Ends when the time has passed. Can be dropped before.
    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()>;
}
