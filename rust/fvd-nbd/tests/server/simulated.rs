//! A server and its clients in simulated time, over pipes in memory: no test measures or waits for real time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fvd_nbd::protocol::constants::{cmd, opt};
use fvd_nbd::server::{Export, Exports, Limits, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::options::message;
use crate::wire;

/// What a pipe holds in each direction, bytes. About as much as a Unix socket does.
const PIPE: usize = 200 << 10;

/// Runs `test`. While all its tasks wait, time passes at once.
pub(crate) fn simulate<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(test)
}

/// Checks that it took the time `expected`. Timers are a little inexact, and `slack` may come on top.
pub(crate) fn assert_took(since: Instant, expected: Duration, slack: Duration) {
    let taken = since.elapsed();
    let most = expected + slack + Duration::from_millis(10);
    assert!((expected..=most).contains(&taken), "{taken:?} instead of {expected:?}");
}

pub(crate) struct Host<E: Export> {
    pub(crate) server: Arc<Server<E>>,
    /// The errors with which connections ended.
    errors: Arc<Mutex<Vec<String>>>,
    connections: JoinSet<()>,
}

impl<E: Export> Host<E> {
    pub(crate) fn new(limits: Limits, export: Arc<E>) -> Self {
        Self::with(limits, export, |server| server)
    }

    /// A server that `configure` configures before its first client.
    pub(crate) fn with(limits: Limits, export: Arc<E>, configure: impl FnOnce(Server<E>) -> Server<E>) -> Self {
        let mut exports = Exports::new();
        exports.add(export).expect("a sound export");
        let errors = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&errors);
        let server = Server::new(exports, limits, move |error| {
            log.lock().expect("not poisoned").push(error.to_string());
        });
        Self {
            server: Arc::new(configure(server)),
            errors,
            connections: JoinSet::new(),
        }
    }

    /// Connects a client that sends nothing.
    pub(crate) fn connect(&mut self) -> Client {
        let (stream, socket) = duplex(PIPE);
        let server = Arc::clone(&self.server);
        self.connections.spawn(async move { server.serve(socket).await });
        Client {
            stream,
            wire: wire::Client::detached(),
        }
    }

    /// Connects a client that opens the export "disk" with simple replies.
    pub(crate) async fn client(&mut self) -> Client {
        let mut client = self.connect();
        client.read(18).await;
        let export = message(opt::EXPORT_NAME, b"disk");
        client.send(&[&3_u32.to_be_bytes()[..], &export].concat()).await;
        client.read(10).await;
        client
    }

    /// Shuts the server down, waits for its end, and returns the errors.
    pub(crate) async fn stop(mut self) -> Vec<String> {
        self.server.shut_down();
        while let Some(ended) = self.connections.join_next().await {
            ended.expect("it does not panic");
        }
        self.errors.lock().expect("not poisoned").clone()
    }
}

/// A client that sends exactly the bytes that a test gives it.
pub(crate) struct Client {
    pub(crate) stream: DuplexStream,
    wire: wire::Client,
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
    }

    /// Sends `bytes` again and again, one piece a second, until the server has closed the connection.
    pub(crate) async fn crawl(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece).cycle() {
            if self.stream.write_all(piece).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub(crate) async fn request(&mut self, command: u16, cookie: u64, offset: u64, length: u64) {
        let header = self.wire.header(0, command, cookie, offset, length);
        self.send(&header).await;
    }

    pub(crate) async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).await.expect("the server writes");
        bytes
    }

    /// Everything that arrives until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).await.expect("no error");
        bytes
    }

    /// Reads a simple reply and returns its error and cookie.
    pub(crate) async fn simple_reply(&mut self) -> (u32, u64) {
        let head = self.read(16).await;
        wire::simple_reply(&head)
    }

    /// Reads a sector.
    pub(crate) async fn assert_served(&mut self) {
        self.request(cmd::READ, 7, 0, 512).await;
        assert_eq!(self.simple_reply().await, (0, 7));
        self.read(512).await;
    }
}
