//! Signals that end a server.

use std::future::{pending, poll_fn};
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Signals within this time after the first one count as the same request: `timeout` and systemd send several
/// at once.
const ECHO: Duration = Duration::from_secs(1);

/// Waits for the signals that ask the server to end.
pub(super) struct Signals(Option<Mutex<Caught>>);

struct Caught {
    signals: [Signal; 3],
    /// When the first signal arrived.
    first: Option<Instant>,
}

impl Signals {
    /// Handles no signals: none ever arrives.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Begins to handle the signals. They do not end the process by default any more, for as long as it
    /// lives.
    pub(super) fn catch() -> io::Result<Self> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [terminate, interrupt, hangup] = kinds.map(signal);
        Ok(Self(Some(Mutex::new(Caught {
            signals: [terminate?, interrupt?, hangup?],
            first: None,
        }))))
    }

    /// Completes once a first signal has arrived, possibly before the call.
    pub(super) async fn first(&self) {
        match &self.0 {
            Some(caught) => caught.lock().await.first().await,
            None => pending().await,
        };
    }

    /// Completes when another signal has arrived after the first, at least [`ECHO`] later. The first one may
    /// have arrived before the call.
    pub(super) async fn second(&self) {
        let Some(caught) = &self.0 else {
            return pending().await;
        };
        let mut caught = caught.lock().await;
        let first = caught.first().await;
        loop {
            caught.next().await;
            if first.elapsed() >= ECHO {
                return;
            }
        }
    }
}

impl Caught {
    async fn first(&mut self) -> Instant {
        if self.first.is_none() {
            self.next().await;
        }
        *self.first.get_or_insert_with(Instant::now)
    }

    async fn next(&mut self) {
        poll_fn(|context| {
            let came = self
                .signals
                .iter_mut()
                .any(|signal| signal.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};
    use tokio::time::{advance, timeout};

    use super::*;

    /// Sends a signal to this process, and waits until all listeners have it.
    async fn raise(signal: Signal) {
        let mut arrived = tokio::signal::unix::signal(SignalKind::from_raw(signal.as_raw())).unwrap();
        kill_process(getpid(), signal).unwrap();
        arrived.recv().await.unwrap();
    }

    // Simulated time passes only while a timeout waits.
    #[tokio::test(start_paused = true)]
    async fn signals_within_the_echo_time_are_no_second_signal() {
        let soon = Duration::from_millis(100);
        let signals = Signals::catch().unwrap();
        assert!(timeout(soon, signals.first()).await.is_err());
        // No call has waited for the first signal yet, so this one is the first, not the second.
        raise(Signal::HUP).await;
        assert!(timeout(soon, signals.second()).await.is_err());
        advance(ECHO / 2).await;
        raise(Signal::TERM).await;
        raise(Signal::HUP).await;
        assert!(timeout(ECHO, signals.second()).await.is_err(), "echoes");
        assert!(timeout(soon, signals.first()).await.is_ok(), "it has come");
        raise(Signal::TERM).await;
        assert!(timeout(soon, signals.second()).await.is_ok());
    }
}
