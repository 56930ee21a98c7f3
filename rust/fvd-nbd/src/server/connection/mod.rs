//! The transmission phase of one connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Instant;

use tokio::time::{Sleep, sleep};

use super::Shared;
use super::buffers::Buffers;
use super::counters::add;
use super::export::Export;
use super::input::Input;
use super::output::Output;
use super::socket::Socket;
use crate::protocol::session::Session;
use polling::{Polling, Round};
use receive::{Receiving, Stop};
use running::{Ended, Running};
use timing::Timing;

mod ending;
mod error;
mod needs;
mod polling;
mod receive;
mod running;
mod timing;

pub use error::ConnectionError;
pub(super) use polling::{PollResult, SpinSlots};

/// Each time so many bytes have been transferred, the time limit starts again.
const PROGRESS: u64 = 1 << 20;

/// The connection to one client after the handshake.
pub(super) struct Connection<S, E> {
    pub(super) socket: S,
    pub(super) input: Input,
    pub(super) buffers: Buffers,
    pub(super) session: Arc<Session>,
    pub(super) export: Arc<E>,
    pub(super) shared: Arc<Shared<E>>,
}

impl<S: Socket, E: Export> Connection<S, E> {
    /// Serves requests until the client leaves, the connection fails, or `shutdown` completes.
    pub(super) async fn run(self, shutdown: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), ConnectionError> {
        let polling = Polling::new(self.shared.limits.poll, &self.shared.slots);
        let mut transmission = Transmission {
            connection: self,
            output: Output::default(),
            receiving: Receiving::Header,
            running: Running::default(),
            polling,
            timing: Timing::new(Instant::now()),
            begun: 0,
            shutdown,
            deadline: None,
            unread: None,
            mute: false,
            ending: None,
        };
        let ended = poll_fn(|context| transmission.poll(context)).await;
        transmission.connection.leave(&ended).await;
        ended
    }
}

struct Transmission<S, E> {
    connection: Connection<S, E>,
    output: Output,
    receiving: Receiving,
    /// The requests that had to wait. Requests that were answered at once are never here.
    running: Running,
    polling: Polling,
    timing: Timing,
    /// The number of requests that were started since the last wait for the client.
    begun: u64,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// While a payload is received: the time by which it must make progress. At the end of the connection:
    /// the time by which all requests must have completed.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The time by which the client must have read the replies up to this byte, counted from the start of the
    /// connection.
    unread: Option<(Pin<Box<Sleep>>, u64)>,
    /// No more replies are sent, because a reply was cut off.
    mute: bool,
    /// No more requests are received, for this reason.
    ending: Option<Result<(), ConnectionError>>,
}

impl<S: Socket, E: Export> Transmission<S, E> {
    fn poll(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), ConnectionError>> {
        if self.ending.is_none() && self.shutdown.as_mut().poll(context).is_ready() {
            self.end(Ok(()));
        }
        let now = Instant::now();
        self.polling.woken(now);
        self.timing.arrive(now);
        loop {
            let stop = self.receive(context);
            self.collect(context);
            self.send(context);
            let now = Instant::now();
            self.timing.sent(now, &self.connection.shared.counters);
            let again = match stop {
                Stop::Output => !self.output.is_full(),
                Stop::InFlight => self.running.len() < self.connection.shared.limits.in_flight,
                Stop::Input => self.spin(now),
                Stop::Memory | Stop::End => false,
            };
            if !again || self.ending.is_some() {
                break;
            }
        }
        self.watch(context);
        if self.ending.is_some() && self.running.is_empty() && self.output.is_empty() {
            return Poll::Ready(self.ending.take().expect("it is ending"));
        }
        Poll::Pending
    }

    /// All received requests have been started. Spins for the next request if it is likely to arrive at once.
    /// Returns whether one arrived.
    fn spin(&mut self, now: Instant) -> bool {
        let connection = &mut self.connection;
        let is_over = matches!(self.receiving, Receiving::Header) && connection.input.bytes().is_empty();
        let round = Round {
            requests: std::mem::take(&mut self.begun),
            is_over: is_over && self.running.is_empty() && self.output.is_empty() && self.ending.is_none(),
        };
        // This also runs under TLS, where spinning is not possible: the connection takes the slot all the
        // same.
        let is_expected = self.polling.expects(round, now);
        let Some(socket) = connection.socket.plain().filter(|_| is_expected) else {
            return false;
        };
        match self.polling.spin(|| connection.input.try_fill(socket)) {
            Ok(found) => {
                if found {
                    self.timing.arrive(Instant::now());
                }
                add(&connection.shared.counters.polled, u64::from(found));
                found
            }
            Err(error) => {
                self.end(Err(io::Error::from(error).into()));
                false
            }
        }
    }

    /// Takes the answers to requests that had to wait.
    fn collect(&mut self, context: &mut task::Context<'_>) {
        while let Poll::Ready(Some(answer)) = self.running.poll_next(context) {
            if let Ok(Ended { answer, how, begun }) = answer {
                if let Some((kind, _)) = answer.measured {
                    self.timing.answered(kind, how, begun);
                }
                answer.put(&mut self.output, &self.connection.shared.counters);
            } else {
                self.connection.shared.counters.abandoned(1);
                self.end(Err(ConnectionError::Lost));
            }
        }
    }

    fn send(&mut self, context: &mut task::Context<'_>) {
        if self.mute {
            self.output = Output::default();
            return;
        }
        match self.output.poll_write(&mut self.connection.socket, context) {
            Poll::Ready(Ok(())) => self.unread = None,
            // The client does not read any more. Requests in flight are completed nevertheless.
            Poll::Ready(Err(error)) => self.hang_up(error.into()),
            Poll::Pending => {
                let taken = |mark| self.output.sent_in_all() >= mark;
                if self.unread.as_ref().is_none_or(|(_, mark)| taken(*mark)) {
                    let patience = self.connection.shared.limits.payload;
                    let mark = self.output.put_in_all().min(self.output.sent_in_all() + PROGRESS);
                    self.unread = Some((Box::pin(sleep(patience)), mark));
                }
            }
        }
    }
}

impl<S, E> Drop for Transmission<S, E> {
    fn drop(&mut self) {
        self.connection.shared.counters.abandoned(self.running.len() as u64);
    }
}
