//! The NBD protocol without I/O: bytes to typed values, and typed replies to bytes.
//!
//! Tests can therefore feed it any byte sequence that a client could send. The modules, bottom layer first. A
//! module uses only those above it in this list, except that `export` and `session` use each other:
//!
//! * [`constants`]: the numbers of the specification, and this server's limits.
//! * [`error`]: errors that are sent in replies, and errors that end a connection.
//! * [`meta`]: metadata contexts: what a client can query about a range.
//! * [`export`]: the properties of an export: name, size, capabilities.
//! * [`session`]: what the client and the server agreed on.
//! * [`handshake`]: the negotiation, from the greeting to a [`session::Session`].
//! * [`reply`]: encodes replies in all three header styles.
//! * [`request`]: decodes a header of 28 or 32 bytes and checks the request.
//! * [`client`]: the other side: opens an export, encodes requests, decodes replies.
//!
//! # Division of work with the caller
//!
//! The handshake buffers its input itself: its messages are small, and it keeps none that exceeds a limit. In
//! the transmission phase, the caller reads the header ([`session::HeaderStyle::request_len`] bytes),
//! [`request::Request::decode`] returns how many bytes of payload follow, and the caller reads those directly
//! into the buffer that the storage gets. A reply is only a header. The caller sends it in front of data that
//! it already holds. No payload is copied.
//!
//! # Bounds on what a client can cost
//!
//! A client is not trusted. What it can make the server keep is bounded from its first byte on:
//!
//! * The data of an option is kept up to [`constants::MAX_OPTION_DATA`]. Longer data is skipped, not kept,
//!   and the option is refused. An option longer than [`constants::MAX_OPTION_SKIP`] ends the connection.
//! * [`handshake::Handshake::feed`] answers one option per call. A client that sends options and does not
//!   read the replies cannot make replies pile up.
//! * The payload of a request is at most [`constants::MAX_PAYLOAD`]. A longer one ends the connection: the
//!   limit was announced, and skipping up to 4 GiB has no benefit. If a request with a shorter payload is
//!   refused, the payload is skipped and the connection continues.
//! * If it is uncertain where a message begins (wrong magic number), the connection ends. A guess could take
//!   data for requests.
//!
//! # TLS
//!
//! When TLS starts, everything that was negotiated in plain text is discarded, because a man in the middle
//! may have sent it. Bytes that arrive together with the request to start TLS, or between it and
//! [`handshake::Handshake::tls_started`], end the connection. A client waits for the reply, so such bytes
//! come from an attacker who wants them to be treated as if they were sent under TLS.

pub mod client;
pub mod constants;
pub mod error;
pub mod export;
pub mod handshake;
pub mod meta;
pub mod reply;
pub mod request;
pub mod session;
