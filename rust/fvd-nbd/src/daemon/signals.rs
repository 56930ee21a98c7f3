//! Signals that end a server.

use std::future::{pending, poll_fn};
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Signals so soon after the first one are the same wish: `timeout` and systemd send several at once.
const ECHO: Duration = Duration::from_secs(1);

/// Waits for the signals that ask a server to end.
pub(super) struct Signals(Option<Mutex<Caught>>);

struct Caught {
    signals: [Signal; 3],
    /// When the first one came.
    first: Option<Instant>,
}

impl Signals {
    /// None ever come: they are somebody else's.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// From now on these signals do not end the process by themselves, for as long as it lives.
    pub(super) fn catch() -> io::Result<Self> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [terminate, interrupt, hangup] = kinds.map(signal);
        Ok(Self(Some(Mutex::new(Caught {
            signals: [terminate?, interrupt?, hangup?],
            first: None,
        }))))
    }

    /// Ready once a signal has come, now or before.
    pub(super) async fn first(&self) {
        match &self.0 {
            Some(caught) => caught.lock().await.first().await,
            None => pending().await,
        };
    }

    /// Ready when another one has come after the first, whether that came before or comes now.
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
    use tokio::time::timeout;

    use super::*;

    fn raise(signal: Signal) {
        kill_process(getpid(), signal).unwrap();
    }

    #[tokio::test]
    async fn only_a_signal_after_the_first_and_its_echo_is_a_second_one() {
        let soon = Duration::from_millis(100);
        let signals = Signals::catch().unwrap();
        assert!(timeout(soon, signals.first()).await.is_err());
        // Nobody has waited for the first one: it is not the second.
        raise(Signal::HUP);
        assert!(timeout(soon, signals.second()).await.is_err());
        raise(Signal::TERM);
        raise(Signal::HUP);
        assert!(timeout(ECHO, signals.second()).await.is_err(), "echoes");
        assert!(timeout(soon, signals.first()).await.is_ok(), "it has come");
        raise(Signal::TERM);
        assert!(timeout(ECHO, signals.second()).await.is_ok());
    }
}
