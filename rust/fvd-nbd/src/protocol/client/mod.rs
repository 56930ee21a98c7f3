//! The client side: what a client sends, and what it accepts from a server. No I/O.
//!
//! * [`fault`]: how a server breaks the protocol, and how it refuses.
//! * [`handshake`]: the negotiation, up to an export that is open.
//! * [`request`]: encodes requests. They only read.
//! * [`reply`]: decodes replies, in both styles with 32-bit lengths.
//!
//! # Bounds on what a server can cost
//!
//! A server is not trusted either. A client keeps at most:
//!
//! * in the negotiation, the data of one reply to an option, up to
//!   [`MAX_OPTION_DATA`](super::constants::MAX_OPTION_DATA), and [`handshake::MAX_REPLIES`] replies to an option;
//! * for each request that it has sent, the bytes that it asked for, and [`reply::MAX_PIECES`] ranges of them
//!   that have come;
//! * one chunk that is no data, up to [`reply::MAX_CHUNK`].
//!
//! Whatever is longer, overlaps, leaves something out or answers no request ends the connection.

pub mod fault;
pub mod handshake;
pub mod reply;
pub mod request;

#[cfg(test)]
mod tests;
