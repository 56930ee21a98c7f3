//! Executes one request, and turns its outcome into a reply.

use bytes::Bytes;
use fvd::{Error, ErrorKind};
use tracing::debug;

use super::budget::Grant;
use super::buffers::{Buffers, Leased};
use super::counters::{Counters, Kind};
use super::export::{Export, Zeroing, refusal};
use super::holes::{Piece, Pieces};
use super::output::Output;
use crate::protocol::error::{Errno, Refusal};
use crate::protocol::meta::Context;
use crate::protocol::reply::{Extents, Position, ReplyTo};
use crate::protocol::request::Command;
use crate::protocol::session::Session;

/// The outcome of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    Done,
    /// Data, sent in one piece.
    Data(Leased),
    /// Data, sent in chunks. Zeroes are sent as holes.
    Sparse(Leased),
    Status(Vec<(Context, Extents)>),
    Refused(Refusal),
}

/// The answer to a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply_to: ReplyTo,
    pub(super) outcome: Outcome,
    pub(super) grant: Option<Grant>,
    /// The kind and length in bytes for the counters. None if the request was never started.
    pub(super) measured: Option<(Kind, u64)>,
}

impl Answer {
    pub(super) fn put(self, output: &mut Output, counters: &Counters) {
        let Self {
            reply_to,
            outcome,
            grant,
            measured,
        } = self;
        match (measured, &outcome) {
            (Some((kind, _)), Outcome::Refused(_)) => counters.answered(kind, None),
            (Some((kind, bytes)), _) => counters.answered(kind, Some(bytes)),
            (None, _) => counters.refused_request(),
        }
        match outcome {
            Outcome::Done => output.put(|out| reply_to.done(out)),
            Outcome::Refused(refusal) => output.put(|out| reply_to.refuse(out, &refusal)),
            Outcome::Data(data) => put_whole(reply_to, output, data, grant),
            Outcome::Sparse(data) => put_pieces(reply_to, output, data, grant),
            Outcome::Status(contexts) => {
                let last = contexts.len() - 1;
                for (number, (context, extents)) in contexts.iter().enumerate() {
                    let position = if number == last { Position::Last } else { Position::More };
                    output.put(|out| reply_to.status(out, context.id(), extents, position));
                }
            }
        }
    }
}

fn put_whole(reply_to: ReplyTo, output: &mut Output, data: Leased, grant: Option<Grant>) {
    output.put(|out| reply_to.data(out, reply_to.offset, data.as_ref().len() as u32, Position::Last));
    output.put_data(data, grant);
}

fn put_pieces(reply_to: ReplyTo, output: &mut Output, data: Leased, grant: Option<Grant>) {
    let length = data.as_ref().len();
    let mut pieces = Pieces::new(data.as_ref());
    let mut next = pieces.next(data.as_ref());
    if next.is_some_and(|piece| !piece.is_hole && piece.length == length) {
        return put_whole(reply_to, output, data, grant);
    }
    let data = Bytes::from_owner(Granted { data, _grant: grant });
    while let Some(Piece { start, length, is_hole }) = next {
        next = pieces.next(&data);
        let position = if next.is_none() { Position::Last } else { Position::More };
        let offset = reply_to.offset + start as u64;
        if is_hole {
            output.put(|out| reply_to.hole(out, offset, length as u32, position));
        } else {
            output.put(|out| reply_to.data(out, offset, length as u32, position));
            output.put_data(data.slice(start..start + length), None);
        }
    }
}

/// Data that is sent in several pieces, with the grant for its memory.
struct Granted {
    data: Leased,
    _grant: Option<Grant>,
}

impl AsRef<[u8]> for Granted {
    fn as_ref(&self) -> &[u8] {
        self.data.as_ref()
    }
}

/// Executes `command`. `payload` is the data of a write.
pub(super) async fn serve<E: Export>(
    export: &E,
    session: &Session,
    buffers: &Buffers,
    command: Command,
    payload: Bytes,
) -> Outcome {
    let outcome = match command {
        Command::Read { length: 0, .. } => Ok(Outcome::Done),
        Command::Read {
            offset,
            length,
            unfragmented,
        } => {
            let read = export.read(buffers.take(length as usize), offset).await;
            let in_chunks = session.style.is_structured() && !unfragmented;
            let outcome = if in_chunks { Outcome::Sparse } else { Outcome::Data };
            read.map(|buffer| outcome(buffers.lease(buffer)))
        }
        Command::BlockStatus { offset, length, one } => status(export, session, offset, length, one).await,
        command => modify(export, command, payload).await.map(|()| Outcome::Done),
    };
    outcome.unwrap_or_else(|error| refused(&command, &error))
}

fn refused(command: &Command, error: &Error) -> Outcome {
    debug!(%error, "the request fails");
    match command {
        Command::WriteZeroes { fast: true, .. } if error.kind() == ErrorKind::Unsupported => {
            Outcome::Refused(Refusal::new(Errno::NotSup, error.reason()))
        }
        _ => Outcome::Refused(refusal(error)),
    }
}

/// Executes the commands whose replies have no data.
async fn modify<E: Export>(export: &E, command: Command, payload: Bytes) -> Result<(), Error> {
    let durable = match command {
        Command::Write { offset, fua, .. } => {
            export.write(payload, offset).await?;
            fua
        }
        Command::WriteZeroes {
            offset,
            length,
            fua,
            no_hole,
            fast,
        } => {
            export.write_zeroes(offset, length, Zeroing { no_hole, fast }).await?;
            fua
        }
        Command::Trim { offset, length, fua } => {
            export.trim(offset, length).await?;
            fua
        }
        Command::Cache { offset, length } => {
            export.cache(offset, length).await?;
            false
        }
        Command::Flush => true,
        Command::Read { .. } | Command::BlockStatus { .. } | Command::Disconnect => {
            unreachable!("answered elsewhere")
        }
    };
    if durable { export.flush().await } else { Ok(()) }
}

/// Walks over the range once for all selected contexts.
async fn status<E: Export>(
    export: &E,
    session: &Session,
    offset: u64,
    length: u64,
    one: bool,
) -> Result<Outcome, Error> {
    let mut contexts: Vec<_> = session
        .contexts
        .iter()
        .map(|context| (context, Extents::new(session, length, one)))
        .collect();
    let mut piece = |length, status: crate::protocol::meta::Status| {
        let mut wanted = false;
        for (context, extents) in &mut contexts {
            wanted |= extents.push(length, status.flags(*context));
        }
        wanted
    };
    export.status(offset, length, &mut piece).await?;
    if contexts.iter().any(|(_, extents)| extents.as_slice().is_empty()) {
        return Ok(Outcome::Refused(Refusal::new(Errno::Io, "the status is not known")));
    }
    Ok(Outcome::Status(contexts))
}
