//! The server: connections under tokio.
//!
//! # Speed
//!
//! A small random read costs a server little more than its system calls, so there are few of them:
//!
//! * One read of the socket takes as many requests as have arrived; they are decoded where they lie.
//! * A request is begun on the task of its connection. If the storage has the data at once (the page
//!   cache, memory) it is answered there and then: no task, no channel, no wake-up. Only what has
//!   to wait becomes a task of its own, so that many requests wait at once.
//! * Replies gather until no request is left to begin, and leave with one vectored write. Short
//!   data is copied into the gathered replies: that is cheaper than a piece of its own, and gives
//!   its memory back at once. Long data is sent from where it was read to. Zeros are told, not sent,
//!   where the client takes replies in chunks: the data itself shows them.
//! * The payload of a write is read from the socket straight into the aligned buffer that the
//!   storage gets, but for what a read of requests has taken with it.
//!
//! One task reads, begins, gathers and writes: nothing of a connection is shared, or locked. For
//! the storage this means: what would block says so (it is pending), or it holds up the
//! connection.
//!
//! # Limits
//!
//! Memory for data is taken from one budget for all connections ([`Limits::memory`]) before a
//! request begins, and given back when its reply has been handed to the kernel. A connection whose
//! next request gets none, that has [`Limits::in_flight`] requests under way, or whose client does
//! not read its replies, is not read from: the client's own socket fills up. A client must end its
//! handshake, that of TLS included, in [`Limits::handshake`]. It must send each payload it announced,
//! and take its replies, at a MiB in [`Limits::payload`]: it holds memory that others wait for.
//!
//! # Who is served
//!
//! [`Sharing`] says how many clients there may be and whether the server outlives them,
//! [`Server::with_tls`] who may know what is said. [`Counters`] tell what was done.
//!
//! # The end of a connection
//!
//! Whatever ends it (a farewell, the end of the stream, an error of the protocol, a shutdown), no
//! request is read any more, those under way end, their replies are sent if the client still takes
//! them, within [`Limits::drain_timeout`]. After that changes go on without a connection, so that nothing
//! is cut off in the middle of a write; whatever changes nothing is dropped.

mod budget;
mod buffers;
mod clients;
mod connection;
mod converse;
mod counters;
mod export;
mod holes;
mod input;
mod listen;
mod listener;
mod memory;
mod negotiate;
mod output;
mod phase;
mod serve;
mod socket;
mod tls;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::handshake::TlsPolicy;
pub use clients::Sharing;
pub use connection::ConnectionError;
pub use counters::{ConnectionCounts, Counters, Kind, RequestCounts};
pub use export::{Export, Exports, Zeroing};
pub use listen::Server;
pub use listener::Listener;
pub use memory::MemoryExport;
pub use socket::Socket;
pub use tls::Credentials;

/// What clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; others are closed as they come.
    pub connections: usize,
    /// Requests of one connection under way at once.
    pub in_flight: usize,
    /// Bytes of data, of all connections together; at least 64 MiB, the longest request.
    pub memory: u64,
    /// From the connection to the end of the handshake.
    pub handshake: Duration,
    /// From the header of a write to the end of its payload; and from when replies are there until
    /// the client has taken them. Each MiB that was sent or taken gives as much time again.
    pub payload: Duration,
    /// From the end of a connection until what is under way has ended and its replies are sent.
    pub drain_timeout: Duration,
    /// For so long the next request of a client that sends one at a time is looked for before a
    /// thread sleeps, at most half a millisecond; zero: not at all. It costs time of the processor, and halves the latency.
    pub poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            in_flight: 128,
            memory: 512 << 20,
            handshake: Duration::from_secs(10),
            payload: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            poll: Duration::from_micros(50),
        }
    }
}

/// This part of [`Limits::memory`] may, on top of it, be kept for the next reads.
const KEPT_PART: u64 = 8;

impl<E> Shared<E> {
    /// Buffers for a new connection.
    fn buffers(&self) -> buffers::Buffers {
        let most = self.limits.memory / KEPT_PART;
        buffers::Buffers::new(Arc::clone(&self.kept), most as usize)
    }
}

/// What all connections of a server share.
struct Shared<E> {
    exports: Exports<E>,
    limits: Limits,
    budget: budget::Budget,
    counters: Arc<Counters>,
    slots: Arc<connection::SpinSlots>,
    /// Bytes of buffers that connections keep for their next reads.
    kept: Arc<AtomicUsize>,
    tls: Option<(Credentials, TlsPolicy)>,
}
