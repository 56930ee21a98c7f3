//! Attacks that have worked against servers when TLS starts in the middle of a connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fvd_nbd::protocol::constants::{cmd, opt, rep};
use fvd_nbd::protocol::handshake::TlsPolicy;
use fvd_nbd::server::{Credentials, Limits, MemoryExport};
use s2n_tls::config::Config;
use s2n_tls::connection::{Builder, Connection};
use s2n_tls::enums::{Mode, PskHmac};
use s2n_tls::psk::Psk;
use s2n_tls_tokio::{TlsConnector, TlsStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::certificates;
use crate::host::Host;
use crate::options::{message, queries};
use crate::simulated::{self, assert_took, simulate};
use crate::wire::{Client, PATIENCE};

fn host(limits: Limits) -> (Host<MemoryExport>, Arc<MemoryExport>) {
    let export = Arc::new(MemoryExport::new("disk", 64 << 20));
    let host = Host::with(limits, [Arc::clone(&export)], |server| {
        server.with_tls(credentials(), TlsPolicy::Optional)
    });
    (host, export)
}

fn credentials() -> Credentials {
    let folder = certificates::make();
    Credentials::psk(&folder.path().join("keys.psk")).expect("keys")
}

/// A client that was told to begin with TLS, of a server in simulated time.
async fn told_to_encrypt(host: &mut simulated::Host<MemoryExport>) -> simulated::Client {
    let mut client = host.connect();
    client.read(18).await;
    let start = message(opt::STARTTLS, b"");
    client.send(&[&3_u32.to_be_bytes()[..], &start].concat()).await;
    client.read(20).await;
    client
}

fn simulated_host() -> simulated::Host<MemoryExport> {
    let export = Arc::new(MemoryExport::new("disk", 1 << 20));
    simulated::Host::with(Limits::default(), export, |server| {
        server.with_tls(credentials(), TlsPolicy::Optional)
    })
}

/// A client with the pre-shared key of user `alice`.
#[derive(Clone)]
struct Alice;

impl Builder for Alice {
    type Output = Connection;

    fn build_connection(&self, mode: Mode) -> Result<Connection, s2n_tls::error::Error> {
        let mut config = Config::builder();
        config.set_security_policy(&s2n_tls::security::DEFAULT_TLS13)?;
        let mut connection = config.build()?.build_connection(mode)?;
        let mut psk = Psk::builder()?;
        let (user, key) = certificates::PSK.trim().split_once(':').expect("two parts");
        let key: Vec<u8> = (0..key.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&key[at..at + 2], 16).expect("a digit"))
            .collect();
        psk.set_identity(user.as_bytes())?
            .set_secret(&key)?
            .set_hmac(PskHmac::SHA256)?;
        connection.append_psk(&psk.build()?)?;
        Ok(connection)
    }
}

/// Sends the options in `plain`, then `STARTTLS`, and returns the TLS stream.
async fn encrypted(socket: &Path, plain: &[Vec<u8>]) -> TlsStream<UnixStream> {
    let mut stream = UnixStream::connect(socket).await.expect("the server listens");
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).await.expect("the server writes");
    stream.write_all(&3_u32.to_be_bytes()).await.expect("the server reads");
    for option in plain.iter().chain([&message(opt::STARTTLS, b"")]) {
        stream.write_all(option).await.expect("the server reads");
        loop {
            let kind = reply(&mut stream).await;
            if kind == rep::ACK || kind & rep::ERROR != 0 {
                break;
            }
        }
    }
    TlsConnector::new(Alice)
        .connect("localhost", stream)
        .await
        .expect("TLS starts")
}

async fn reply(stream: &mut (impl AsyncReadExt + Unpin)) -> u32 {
    let mut head = [0; 20];
    stream.read_exact(&mut head).await.expect("the server writes");
    let [kind, length] = [12, 16].map(|at| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes")));
    stream
        .read_exact(&mut vec![0; length as usize])
        .await
        .expect("the server writes");
    kind
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, test).await })
        .expect("in time")
}

#[test]
fn no_state_is_kept_across_starttls() {
    let (host, _) = host(Limits::default());
    run(async {
        let contexts = queries("disk", &["base:allocation"]);
        let plain = [
            message(opt::STRUCTURED_REPLY, b""),
            message(opt::SET_META_CONTEXT, &contexts),
        ];
        let mut client = encrypted(&host.socket(), &plain).await;
        client
            .write_all(&message(opt::SET_META_CONTEXT, &contexts))
            .await
            .unwrap();
        assert_eq!(
            reply(&mut client).await,
            rep::ERR_INVALID,
            "structured replies are forgotten"
        );
        client.write_all(&message(opt::STARTTLS, b"")).await.unwrap();
        assert_eq!(reply(&mut client).await, rep::ERR_INVALID, "TLS within TLS");
        client.write_all(&message(opt::EXPORT_NAME, b"disk")).await.unwrap();
        let mut size_and_flags = [0; 10];
        client.read_exact(&mut size_and_flags).await.unwrap();
        let df = 1 << 7;
        assert_eq!(size_and_flags[9] & df, 0, "replies are simple");
    });
}

#[test]
fn commands_injected_after_starttls_are_not_executed() {
    let (host, _) = host(Limits::default());
    let mut client = Client::connect(&host.socket());
    client.read(18);
    let injected = [message(opt::STARTTLS, b""), message(opt::LIST, b"")].concat();
    client.send(&[&3_u32.to_be_bytes()[..], &injected].concat());
    assert!(client.rest().is_empty(), "not even the acknowledgement");
    assert_eq!(
        host.stop(),
        ["protocol error: plain text behind the request to start TLS"]
    );
}

#[test]
fn plain_text_instead_of_a_tls_handshake_gets_no_plain_reply() {
    simulate(async {
        let mut host = simulated_host();
        let mut client = told_to_encrypt(&mut host).await;
        client.send(&message(opt::LIST, b"")).await;
        let last = client.rest().await;
        assert!(last.len() < 20, "at most an alert of TLS: {last:?}");
        assert_eq!(host.stop().await.len(), 1);
    });
}

#[test]
fn silence_instead_of_a_tls_handshake_ends_the_connection() {
    simulate(async {
        let (mut host, start) = (simulated_host(), Instant::now());
        let mut client = told_to_encrypt(&mut host).await;
        assert!(client.rest().await.is_empty());
        assert_took(start, Limits::default().handshake, Duration::ZERO);
        assert_eq!(host.stop().await, ["the client took too long to end the handshake"]);
    });
}

#[test]
fn long_data_goes_both_ways_and_replies_follow_a_half_close() {
    let (host, export) = host(Limits::default());
    let wire = Client::detached();
    run(async {
        let mut client = encrypted(&host.socket(), &[]).await;
        client.write_all(&message(opt::EXPORT_NAME, b"disk")).await.unwrap();
        client.read_exact(&mut [0; 10]).await.unwrap();
        let data: Vec<u8> = (0..32_u32 << 20).map(|n| (n / 251) as u8).collect();
        let mut sent = wire.header(0, cmd::WRITE, 1, 0, 32 << 20);
        sent.extend(&data);
        sent.extend(wire.header(0, cmd::READ, 2, 32 << 20, 32 << 20));
        sent.extend(wire.header(0, cmd::READ, 3, 0, 32 << 20));
        client.write_all(&sent).await.unwrap();
        // Closes the sending side, of TLS and of the socket.
        client.shutdown().await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 16 + 2 * (16 + (32 << 20)));
        assert!(received[received.len() - (32 << 20)..] == data[..]);
    });
    assert!(export.content()[(32 << 20) - 1] != 0);
    assert_eq!(host.stop(), [""; 0]);
}
