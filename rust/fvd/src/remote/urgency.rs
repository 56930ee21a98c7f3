//! How urgent a read of a remote file is. The caller sets it around the read, and the remote file asks for it:
//! the layers in between (formats, libraries) need not pass it on.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;

/// How urgent a read of a remote file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A guest or a program waits for it.
    Demand,
    /// Prefetch: reads on demand go first.
    Background,
    /// Prefetch of what a profile names. What lies around it is of no use, so it is not fetched.
    Scattered,
}

thread_local! {
    static CURRENT: Cell<Urgency> = const { Cell::new(Urgency::Demand) };
}

impl Urgency {
    /// That of a read which begins now, on this thread.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.get()
    }
}

/// Gives back what was there before, also after a panic.
struct Restore(Urgency);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Runs `future`. Reads that begin while it is polled are as urgent as `urgency` says.
pub async fn with_urgency<F: Future>(urgency: Urgency, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _restore = Restore(CURRENT.replace(urgency));
        future.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::join::{join_all, yield_now};

    #[test]
    fn only_what_runs_in_the_background_is_not_urgent() {
        let background = with_urgency(Urgency::Background, async {
            for _ in 0..3 {
                assert_eq!(Urgency::current(), Urgency::Background);
                yield_now().await;
            }
        });
        let demand = async {
            for _ in 0..3 {
                assert_eq!(Urgency::current(), Urgency::Demand);
                yield_now().await;
            }
        };
        block_on(join_all(vec![Box::pin(background), Box::pin(demand)]));
        assert_eq!(Urgency::current(), Urgency::Demand);
    }
}
