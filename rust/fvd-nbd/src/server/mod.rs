//! The NBD server: connections on the tokio runtime.
//!
//! # Speed
//!
//! The cost of a small random read is mostly system calls, so the server makes few of them:
//!
//! * One read of the socket takes all requests that have arrived. They are decoded in the receive buffer.
//! * A request is first polled on the task of its connection. If the storage can answer at once (page cache,
//!   memory), the reply is ready without a new task, a channel or a wake-up. A request that has to wait
//!   becomes a separate task, so that many requests can wait at the same time.
//! * Replies are gathered until no request is left to start, and are then sent with one vectored write. Short
//!   data is copied into the gathered replies: that is cheaper than a separate slice, and frees its memory at
//!   once. Long data is sent from the buffer that it was read to. If the client takes replies in chunks,
//!   zeroes in the data are sent as holes.
//! * The payload of a write is read from the socket directly into the aligned buffer that the storage gets,
//!   except for the bytes that were already read together with requests.
//!
//! One task reads, starts requests, gathers replies and writes them, so nothing of a connection is shared or
//! locked. The storage must therefore return pending instead of blocking: a storage that blocks stops the
//! connection.
//!
//! # Limits
//!
//! A request takes memory for its data from one budget for all connections ([`Limits::memory`]) before it
//! starts. The memory is returned when the reply has been passed to the kernel. The server stops reading from
//! a connection whose next request gets no memory, that has [`Limits::in_flight`] requests in flight, or
//! whose client does not read its replies; the client's socket buffer then fills up. A client must complete
//! its handshake, including that of TLS, within [`Limits::handshake`]. It must send each payload that it
//! announced, and read its replies, at a rate of at least 1 MiB per [`Limits::payload`], because it holds
//! memory that other clients wait for.
//!
//! # Access
//!
//! [`Sharing`] limits the number of clients and says whether the server ends with its last client.
//! [`Server::with_tls`] encrypts connections and authenticates clients. [`Counters`] count what was done.
//!
//! # The end of a connection
//!
//! A connection ends with a disconnect request, the end of the stream, a protocol error or a shutdown. In
//! each case no further request is read, requests in flight are completed, and their replies are sent if the
//! client still reads them, within [`Limits::drain_timeout`]. After that time, requests that change the disk
//! continue without a connection, so that no write is cut off in the middle. All other requests are dropped.

mod budget;
mod buffers;
mod clients;
mod connection;
mod converse;
mod counters;
mod export;
mod holes;
mod input;
mod latency;
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

use crate::protocol::handshake::TlsPolicy;
pub use clients::Sharing;
pub use connection::ConnectionError;
pub use counters::{ConnectionCounts, Counters, Kind, RequestCounts};
pub use export::{Export, Exports, Zeroing};
pub use latency::{BOUNDS, Latencies};
pub use listen::Server;
pub use listener::Listener;
pub use memory::MemoryExport;
pub use socket::Socket;
pub use tls::Credentials;

/// The limits on what clients can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of connections. Further connections are closed at once.
    pub connections: usize,
    /// The maximum number of requests in flight on one connection.
    pub in_flight: usize,
    /// The memory for data of all connections together, in bytes. At least 64 MiB, the longest request;
    /// smaller values are raised to that.
    pub memory: u64,
    /// The time from the connection to the end of the handshake.
    pub handshake: Duration,
    /// The time from the header of a write to the end of its payload, and the time in which the client must
    /// read replies that are ready. Each MiB that is transferred starts the time again.
    pub payload: Duration,
    /// The time from the end of a connection until requests in flight have completed and their replies are
    /// sent.
    pub drain_timeout: Duration,
    /// How long the server reads on after it has sent its last reply, so that the client receives that reply.
    pub linger: Duration,
    /// How long the server spins for the next request before the thread sleeps, if the client sends one
    /// request at a time. At most half a millisecond is used; zero disables spinning. It costs CPU time, and
    /// halves the latency.
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
            linger: Duration::from_secs(1),
            poll: Duration::from_micros(50),
        }
    }
}

/// The buffers that connections keep for reuse may take this fraction of [`Limits::memory`], in addition to
/// it.
const KEPT_PART: u64 = 8;

impl<E> Shared<E> {
    /// The buffers of a new connection.
    fn buffers(&self) -> buffers::Buffers {
        let most = self.limits.memory / KEPT_PART;
        buffers::Buffers::new(Arc::clone(&self.kept), most as usize)
    }
}

/// The state that all connections of a server share.
struct Shared<E> {
    exports: Exports<E>,
    limits: Limits,
    budget: budget::Budget,
    counters: Arc<Counters>,
    slots: Arc<connection::SpinSlots>,
    /// The number of bytes in buffers that connections keep for reuse.
    kept: Arc<AtomicUsize>,
    tls: Option<(Credentials, TlsPolicy)>,
}
