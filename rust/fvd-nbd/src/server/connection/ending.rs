//! The end of a connection: why it ends, what is still completed, and how the socket is closed.
//!
//! The module documentation of `server` has the rules.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task;

use tokio::time::{sleep, timeout};

use super::receive::Receiving;
use super::{Connection, ConnectionError, Transmission};
use crate::server::export::Export;
use crate::server::input::poll_read;
use crate::server::output::Output;
use crate::server::socket::Socket;

impl<S: Socket, E: Export> Connection<S, E> {
    /// Closes the connection, which has ended in this way. After a failure of the socket there is nothing to do.
    pub(super) async fn leave(&mut self, ended: &Result<(), ConnectionError>) {
        if matches!(ended, Ok(()) | Err(ConnectionError::Protocol(_))) {
            // The connection is over, so an error here does not matter.
            let patience = self.shared.limits.linger;
            let _ = timeout(patience, self.linger()).await;
        }
    }

    /// Closes the sending side (under TLS with `close_notify`), and reads until the client closes its side.
    /// If a socket is closed while it has unread input, the kernel resets the connection, and the client may
    /// lose replies that were already sent.
    async fn linger(&mut self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut self.socket).poll_shutdown(context)).await?;
        let mut scratch = [0; 4096];
        while poll_fn(|context| poll_read(&mut self.socket, context, &mut scratch)).await? > 0 {}
        Ok(())
    }
}

impl<S: Socket, E: Export> Transmission<S, E> {
    /// Begins the end of the connection: only requests in flight are completed. The first reason counts.
    pub(super) fn end(&mut self, why: Result<(), ConnectionError>) {
        if self.ending.is_none() {
            self.ending = Some(why);
            self.receiving = Receiving::Header;
            self.deadline = Some(Box::pin(sleep(self.connection.shared.limits.drain_timeout)));
        }
    }

    /// Drops all replies and sends no more.
    pub(super) fn hang_up(&mut self, why: ConnectionError) {
        self.output = Output::default();
        self.mute = true;
        self.unread = None;
        self.end(Err(why));
    }

    /// Checks the deadlines.
    pub(super) fn watch(&mut self, context: &mut task::Context<'_>) {
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
