//! The transmission phase of one connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep, timeout};

use super::Shared;
use super::buffers::Buffers;
use super::counters::add;
use super::export::Export;
use super::input::{Input, poll_read};
use super::output::Output;
use super::socket::Socket;
use crate::session::Session;
use polling::{Polling, Round};
use receive::{Receiving, Stop};
use running::Running;

mod error;
mod needs;
mod polling;
mod receive;
mod running;

pub use error::ConnectionError;
pub(super) use polling::{PollResult, SpinSlots};

/// How long a client that is told no more may go on sending, so that it gets what it was told.
const LINGER: Duration = Duration::from_secs(1);

/// Who moves so many bytes gets as much time again.
const PROGRESS: u64 = 1 << 20;

/// One client with its session.
pub(super) struct Connection<S, E> {
    pub(super) socket: S,
    pub(super) input: Input,
    pub(super) buffers: Buffers,
    pub(super) session: Arc<Session>,
    pub(super) export: Arc<E>,
    pub(super) shared: Arc<Shared<E>>,
}

impl<S: Socket, E: Export> Connection<S, E> {
    /// Serves requests until the client leaves, fails, or `shutdown` is ready.
    pub(super) async fn run(self, shutdown: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), ConnectionError> {
        let polling = Polling::new(self.shared.limits.poll, &self.shared.slots);
        let mut transmission = Transmission {
            connection: self,
            output: Output::default(),
            receiving: Receiving::Header,
            running: Running::default(),
            polling,
            begun: 0,
            shutdown,
            deadline: None,
            unread: None,
            mute: false,
            ending: None,
        };
        let ended = poll_fn(|context| transmission.poll(context)).await;
        if matches!(ended, Ok(()) | Err(ConnectionError::Protocol(_))) {
            // How that ends does not matter.
            let _ = timeout(LINGER, transmission.connection.linger()).await;
        }
        ended
    }

    /// Says that nothing follows (under TLS, too), and reads on: a socket that is closed with bytes unread takes
    /// back what it has sent.
    async fn linger(&mut self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut self.socket).poll_shutdown(context)).await?;
        let mut scratch = [0; 4096];
        while poll_fn(|context| poll_read(&mut self.socket, context, &mut scratch)).await? > 0 {}
        Ok(())
    }
}

struct Transmission<S, E> {
    connection: Connection<S, E>,
    output: Output,
    receiving: Receiving,
    /// Requests that had to wait. Those that did not are never here.
    running: Running,
    polling: Polling,
    /// Requests since the client was last waited for.
    begun: u64,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Until when the payload must have made progress, or, at the end, all have come to its end.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Until when the client must have taken the replies up to this byte of all.
    unread: Option<(Pin<Box<Sleep>>, u64)>,
    /// Nothing more is sent: a reply was cut off.
    mute: bool,
    /// Nothing more is received, for this reason.
    ending: Option<Result<(), ConnectionError>>,
}

impl<S: Socket, E: Export> Transmission<S, E> {
    fn poll(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), ConnectionError>> {
        if self.ending.is_none() && self.shutdown.as_mut().poll(context).is_ready() {
            self.end(Ok(()));
        }
        self.polling.woken(Instant::now());
        loop {
            let stop = self.receive(context);
            self.collect(context);
            self.send(context);
            let again = match stop {
                Stop::Output => !self.output.is_full(),
                Stop::InFlight => self.running.len() < self.connection.shared.limits.in_flight,
                Stop::Input => self.spin(),
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

    /// All that has come is begun. Looks for the next request, if it is likely to come at once; tells
    /// whether it has.
    fn spin(&mut self) -> bool {
        let connection = &mut self.connection;
        let is_over = matches!(self.receiving, Receiving::Header) && connection.input.bytes().is_empty();
        let round = Round {
            requests: std::mem::take(&mut self.begun),
            is_over: is_over && self.running.is_empty() && self.output.is_empty() && self.ending.is_none(),
        };
        // Under TLS, where nobody looks, it is a turn all the same.
        let is_expected = self.polling.expects(round, Instant::now());
        let Some(socket) = connection.socket.plain().filter(|_| is_expected) else {
            return false;
        };
        match self.polling.spin(|| connection.input.try_fill(socket)) {
            Ok(found) => {
                add(&connection.shared.counters.polled, u64::from(found));
                found
            }
            Err(error) => {
                self.end(Err(io::Error::from(error).into()));
                false
            }
        }
    }

    /// From now on only what is under way is ended; the first reason counts.
    fn end(&mut self, why: Result<(), ConnectionError>) {
        if self.ending.is_none() {
            self.ending = Some(why);
            self.receiving = Receiving::Header;
            self.deadline = Some(Box::pin(sleep(self.connection.shared.limits.drain_timeout)));
        }
    }

    /// Takes the answers of requests that had to wait.
    fn collect(&mut self, context: &mut task::Context<'_>) {
        while let Poll::Ready(Some(answer)) = self.running.poll_next(context) {
            if let Ok(answer) = answer {
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
            // Nobody listens. What is under way ends all the same.
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

    /// No more replies.
    fn hang_up(&mut self, why: ConnectionError) {
        self.output = Output::default();
        self.mute = true;
        self.unread = None;
        self.end(Err(why));
    }

    /// Looks at the clock.
    fn watch(&mut self, context: &mut task::Context<'_>) {
        if let Some((patience, _)) = &mut self.unread
            && patience.as_mut().poll(context).is_ready()
        {
            self.hang_up(ConnectionError::Deadline("to take its replies"));
        }
        let Some(deadline) = &mut self.deadline else {
            return;
        };
        if deadline.as_mut().poll(context).is_pending() {
            return;
        }
        self.deadline = None;
        if self.ending.is_none() {
            self.end(Err(ConnectionError::Deadline("to send what it announced")));
            context.waker().wake_by_ref();
        } else {
            let given_up = self.running.give_up() as u64;
            self.connection.shared.counters.abandoned(given_up);
            self.output = Output::default();
        }
    }
}

impl<S, E> Drop for Transmission<S, E> {
    fn drop(&mut self) {
        self.connection.shared.counters.abandoned(self.running.len() as u64);
    }
}
