//! Fuzz tests of whole sessions, from the greeting to the end, over a pipe in memory. Valid sessions must be
//! answered as a model predicts. In any other session the server must end the connection within its limits of
//! memory and time. Time is simulated, so deadlines pass at once.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use fvd_nbd::protocol::handshake::TlsPolicy;
use fvd_nbd::server::{Credentials, Exports, Limits, MemoryExport, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{sleep, timeout};

use super::memory::peak_of;
use super::session::{SIZE, Script};
use super::{options, seeds};

/// The memory that one connection may use, in bytes: its input, its replies (those in flight, and the
/// megabyte above which no new request starts), and the payload of one write.
const MOST_MEMORY: usize = 8 << 20;

/// Longer than the sum of all deadlines.
const SILENCE: Duration = Duration::from_secs(200);

fn limits() -> Limits {
    Limits {
        in_flight: 8,
        handshake: Duration::from_secs(10),
        payload: Duration::from_secs(60),
        drain_timeout: Duration::from_secs(30),
        ..Limits::default()
    }
}

fn server(tls: Option<Credentials>) -> (Server<MemoryExport>, Arc<MemoryExport>) {
    let disk = Arc::new(MemoryExport::new("disk", SIZE));
    let mut exports = Exports::new();
    exports.add(Arc::clone(&disk)).expect("a sound export");
    let server = Server::new(exports, limits(), |_| {});
    match tls {
        None => (server, disk),
        Some(credentials) => (server.with_tls(credentials, TlsPolicy::Optional), disk),
    }
}

/// Runs a client that sends `bytes` in pieces of random size and then ends as `end` says. Returns what it
/// received.
fn converse(rng: &mut Rng, server: &Server<MemoryExport>, bytes: &[u8], end: End) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (client, socket) = duplex(rng.usize(1..100_000));
        let mut received = Vec::new();
        let work = async {
            let served = server.serve(socket);
            let client = talk(rng, client, bytes, end, &mut received);
            tokio::pin!(served, client);
            // Either may end first.
            let mut left = false;
            std::future::poll_fn(|context| {
                left = left || client.as_mut().poll(context).is_ready();
                served.as_mut().poll(context)
            })
            .await;
            if !left {
                client.await;
            }
        };
        // Between requests a client may be silent without limit, so the connection lasts until the client is
        // gone.
        let patience = SILENCE + limits().drain_timeout + Duration::from_secs(10);
        timeout(patience, work).await.expect("a connection ends in time");
        received
    })
}

/// How a client ends its session.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// It closes its sending side and reads on.
    HalfClosed,
    /// It closes the connection.
    Gone,
    /// It neither reads nor writes any more.
    Silent,
}

async fn talk(rng: &mut Rng, client: DuplexStream, bytes: &[u8], end: End, received: &mut Vec<u8>) {
    let (mut from, mut to) = tokio::io::split(client);
    let pieces: Vec<usize> = (0..8).map(|_| rng.usize(1..10_000)).collect();
    let send = async {
        let mut rest = bytes;
        for length in pieces.iter().cycle() {
            let (piece, after) = rest.split_at(rest.len().min(*length));
            // The server may have closed the connection.
            if piece.is_empty() || to.write_all(piece).await.is_err() {
                break;
            }
            rest = after;
        }
        match end {
            End::HalfClosed => drop(to.shutdown().await),
            End::Gone => {}
            End::Silent => sleep(SILENCE).await,
        }
    };
    let receive = async {
        // A silent client does not read. The server must not wait for it.
        if end != End::Silent {
            let _ = from.read_to_end(received).await;
        }
    };
    tokio::pin!(send, receive);
    let (mut sent, mut read) = (false, false);
    std::future::poll_fn(|context| {
        sent = sent || send.as_mut().poll(context).is_ready();
        read = read || receive.as_mut().poll(context).is_ready();
        if sent && (read || end != End::HalfClosed) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

fn assert_idle(server: &Server<MemoryExport>) {
    assert_eq!(server.counters().connections().now, 0);
    assert_eq!(server.counters().in_flight(), 0);
}

#[test]
fn a_valid_session_is_answered_as_the_model_predicts() {
    seeds::fuzz(500, |rng| {
        let script = Script::new(rng);
        let (server, disk) = server(None);
        let received = converse(rng, &server, script.bytes(), End::HalfClosed);
        script.assert_answered(&received);
        assert!(disk.content() == script.content(), "the disk is that of the model");
        assert_idle(&server);
        assert_eq!(server.counters().connections().failed, 0);
    });
}

#[test]
fn a_mutated_session_ends_within_its_limits() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "alice:000102030405060708090a0b0c0d0e0f\n").expect("keys");
    let credentials = Credentials::psk(file.path()).expect("keys");
    seeds::fuzz(2000, |rng| {
        let script = Script::new(rng);
        let mut bytes = script.bytes().to_vec();
        mutate(rng, &mut bytes);
        bytes.insert(0, rng.u8(..));
        if rng.bool() {
            converse_with(&bytes, Some(credentials.clone()));
        } else {
            session(&bytes);
        }
    });
}

/// The session of a client without TLS that sends `data`, of which the first byte says how.
pub(crate) fn session(data: &[u8]) {
    converse_with(data, None);
}

fn converse_with(data: &[u8], tls: Option<Credentials>) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let rng = &mut Rng::with_seed((*how).into());
    let end = [End::HalfClosed, End::Gone, End::Silent][rng.usize(..3)];
    let (server, _) = server(tls);
    let ((), peak) = peak_of(|| drop(converse(rng, &server, bytes, end)));
    // The memory of the client itself is not counted.
    assert!(peak <= MOST_MEMORY + 4 * bytes.len(), "{peak} bytes for a session");
    assert_idle(&server);
}

/// Changes bits and bytes, cuts, inserts and repeats data.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(..6) {
        let at = rng.usize(..bytes.len());
        match rng.u32(..6) {
            0 => bytes[at] ^= 1 << rng.u32(..8),
            1 => bytes[at] = [0, 0xff, 0x80, rng.u8(..)][rng.usize(..4)],
            2 => bytes.truncate(at + 1),
            3 => {
                let length = rng.usize(..64);
                let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
                bytes.splice(at..at, noise);
            }
            4 => {
                let end = bytes.len().min(at + rng.usize(..200));
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            // `STARTTLS` at any position.
            _ => drop(bytes.splice(at..at, options::message(5, b""))),
        }
    }
}
