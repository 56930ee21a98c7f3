//! Receives requests from the socket and starts them.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use fvd::aio::Observed;
use fvd::storage::IoBufMut;
use tokio::time::sleep;
use tracing::{Instrument as _, Span, field, trace_span};

use super::needs::needs;
use super::running::{Ended, changes};
use super::{ConnectionError, PROGRESS, Transmission};
use crate::protocol::error::{Errno, ProtocolError, Refusal};
use crate::protocol::reply::ReplyTo;
use crate::protocol::request::{Command, Request};
use crate::server::budget::{Grant, Waiting};
use crate::server::counters::{Kind, measure};
use crate::server::export::Export;
use crate::server::input::poll_read;
use crate::server::serve::{Answer, Outcome, serve};
use crate::server::socket::Socket;

/// What is being received.
pub(super) enum Receiving {
    Header,
    /// A complete header was received, and the request waits for memory.
    Memory(Request, Waiting),
    Payload {
        reply_to: ReplyTo,
        command: Command,
        buffer: IoBufMut,
        filled: usize,
        grant: Option<Grant>,
    },
    /// Skips the payload of a refused request.
    Skip {
        answer: Answer,
        left: usize,
    },
}

/// Why receiving stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The client has sent no more.
    Input,
    /// Too many replies are unsent.
    Output,
    /// Too many requests are in flight.
    InFlight,
    /// No memory is free.
    Memory,
    /// The connection ends, so no more is received.
    End,
}

/// The span of a request. Unless it is wanted, it costs one relaxed load here.
fn request_span(reply_to: &ReplyTo, measured: Option<(Kind, u64)>) -> Span {
    trace_span!(
        "request",
        kind = measured.map(|(kind, _)| kind.name()),
        offset = reply_to.offset,
        length = measured.map(|(_, length)| length),
        cookie = reply_to.cookie,
        how = field::Empty,
    )
}

impl<S: Socket, E: Export> Transmission<S, E> {
    /// Starts received requests and reads more, until something stops it.
    pub(super) fn receive(&mut self, context: &mut task::Context<'_>) -> Stop {
        loop {
            if self.ending.is_some() {
                return Stop::End;
            }
            if self.output.is_full() {
                return Stop::Output;
            }
            if self.running.len() >= self.connection.shared.limits.in_flight {
                return Stop::InFlight;
            }
            match self.step(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.end(Err(error)),
                Poll::Pending if matches!(self.receiving, Receiving::Memory(..)) => return Stop::Memory,
                Poll::Pending => return Stop::Input,
            }
        }
    }

    /// Makes one step: receives a header, gets memory, or receives a part of a payload.
    fn step(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let connection = &mut self.connection;
        match std::mem::replace(&mut self.receiving, Receiving::Header) {
            Receiving::Header => {
                let length = connection.session.style.request_len();
                let Some(header) = connection.input.bytes().get(..length) else {
                    return self.fill(context);
                };
                let request = Request::decode(header, &connection.session);
                connection.input.consume(length);
                match request {
                    Ok(request) => self.take(request, context),
                    Err(error) => {
                        self.answer_last(&error);
                        return Poll::Ready(Err(error.into()));
                    }
                }
            }
            Receiving::Memory(request, mut waiting) => match waiting.as_mut().poll(context) {
                Poll::Ready(grant) => self.granted(request, Some(grant), context),
                Poll::Pending => {
                    self.receiving = Receiving::Memory(request, waiting);
                    return Poll::Pending;
                }
            },
            Receiving::Payload {
                reply_to,
                command,
                mut buffer,
                filled,
                grant,
            } => {
                let rest = &mut buffer.as_mut_slice()[filled..];
                let count = match connection.input.move_to(rest) {
                    0 => poll_read(&mut connection.socket, context, rest),
                    count => Poll::Ready(Ok(count)),
                };
                let before = filled;
                let filled = filled + if let Poll::Ready(Ok(count)) = &count { *count } else { 0 };
                self.progress(before, filled);
                let connection = &mut self.connection;
                if filled == buffer.len() {
                    self.deadline = None;
                    let payload = Bytes::from_owner(connection.buffers.lease(buffer));
                    self.begin(reply_to, command, payload, grant, context);
                    return Poll::Ready(Ok(()));
                }
                self.receiving = Receiving::Payload {
                    reply_to,
                    command,
                    buffer,
                    filled,
                    grant,
                };
                return self.received(count);
            }
            Receiving::Skip { answer, left } => {
                let there = connection.input.bytes().len().min(left);
                connection.input.consume(there);
                if there == left {
                    self.deadline = None;
                    answer.put(&mut self.output, &connection.shared.counters);
                    return Poll::Ready(Ok(()));
                }
                self.progress(left, left - there);
                self.receiving = Receiving::Skip {
                    answer,
                    left: left - there,
                };
                return self.fill(context);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Restarts the time limit of a payload each time it has passed another [`PROGRESS`] bytes.
    fn progress(&mut self, before: usize, now: usize) {
        if before as u64 / PROGRESS != now as u64 / PROGRESS {
            self.deadline = None;
        }
    }

    fn fill(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let connection = &mut self.connection;
        let count = connection.input.poll_fill(&mut connection.socket, context);
        self.received(count)
    }

    /// Handles the result of a read of the socket. 0 bytes: the client sends no more.
    fn received(&mut self, count: Poll<io::Result<usize>>) -> Poll<Result<(), ConnectionError>> {
        match count {
            Poll::Ready(Ok(0)) => {
                let whole = matches!(self.receiving, Receiving::Header) && self.connection.input.bytes().is_empty();
                let cut = || io::Error::from(io::ErrorKind::UnexpectedEof).into();
                self.end(if whole { Ok(()) } else { Err(cut()) });
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => {
                if !matches!(self.receiving, Receiving::Header) && self.deadline.is_none() {
                    self.deadline = Some(Box::pin(sleep(self.connection.shared.limits.payload)));
                }
                Poll::Pending
            }
        }
    }

    /// Handles a request whose header was received.
    fn take(&mut self, request: Request, context: &mut task::Context<'_>) {
        let bytes = match &request.command {
            Ok(Command::Disconnect) => return self.end(Ok(())),
            Ok(command) => needs(command, self.connection.session.export.block_sizes.preferred),
            Err(_) => 0,
        };
        if bytes == 0 {
            return self.granted(request, None, context);
        }
        let budget = &self.connection.shared.budget;
        match budget.try_take(bytes) {
            Some(grant) => self.granted(request, Some(grant), context),
            None => self.receiving = Receiving::Memory(request, budget.take(bytes)),
        }
    }

    /// Continues with a request that has the memory it needs.
    fn granted(&mut self, request: Request, grant: Option<Grant>, context: &mut task::Context<'_>) {
        let Request {
            reply_to,
            payload,
            command,
        } = request;
        match command {
            Ok(command) if payload == 0 => self.begin(reply_to, command, Bytes::new(), grant, context),
            Ok(command) => {
                self.receiving = Receiving::Payload {
                    reply_to,
                    command,
                    buffer: self.connection.buffers.take(payload as usize),
                    filled: 0,
                    grant,
                };
            }
            Err(refusal) => {
                let answer = Answer {
                    reply_to,
                    outcome: Outcome::Refused(refusal),
                    grant,
                    measured: None,
                };
                let left = payload as usize;
                self.receiving = Receiving::Skip { answer, left };
            }
        }
    }

    /// Starts a request. It is answered here if it does not have to wait, otherwise it becomes a task.
    fn begin(
        &mut self,
        reply_to: ReplyTo,
        command: Command,
        payload: Bytes,
        grant: Option<Grant>,
        context: &mut task::Context<'_>,
    ) {
        let export = Arc::clone(&self.connection.export);
        let session = Arc::clone(&self.connection.session);
        let buffers = self.connection.buffers.clone();
        let (measured, changes) = (measure(&command), changes(&command));
        let span = request_span(&reply_to, measured);
        let begun = self.timing.begin();
        self.connection.shared.counters.begun();
        self.begun += 1;
        let request = async move {
            let outcome = serve(&*export, &session, &buffers, command, payload).await;
            Answer {
                reply_to,
                outcome,
                grant,
                measured,
            }
        };
        let mut request = Observed::new(Box::pin(request.instrument(span.clone())));
        match Pin::new(&mut request).poll(context) {
            Poll::Ready((answer, how)) => {
                span.record("how", how.name());
                if let Some((kind, _)) = measured {
                    self.timing.answered(kind, how, begun);
                }
                answer.put(&mut self.output, &self.connection.shared.counters);
            }
            Poll::Pending => self.running.spawn(changes, async move {
                let (answer, how) = request.await;
                span.record("how", how.name());
                Ended { answer, how, begun }
            }),
        }
    }

    /// Answers the request after which the connection cannot continue, if its cookie is known.
    fn answer_last(&mut self, error: &ProtocolError) {
        if let ProtocolError::PayloadTooLong { cookie, .. } = *error {
            let reply_to = ReplyTo {
                style: self.connection.session.style,
                cookie,
                offset: 0,
                read: false,
            };
            let refusal = Refusal::new(Errno::Inval, error.to_string());
            self.output.put(|out| reply_to.refuse(out, &refusal));
        }
    }
}
