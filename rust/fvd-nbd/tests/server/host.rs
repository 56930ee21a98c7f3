//! Runs a server in a thread, on a Unix socket in a temporary folder and on a TCP port.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fvd_nbd::server::{Export, Exports, Limits, Listener, Server};
use tempfile::TempDir;
use tokio::runtime;

/// Waits for an event that must come. If it does not, the runner of the tests ends this test.
pub(crate) fn wait_until(has_come: impl Fn() -> bool) {
    while !has_come() {
        thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) struct Host<E: Export> {
    pub(crate) server: Arc<Server<E>>,
    /// The errors with which connections ended.
    pub(crate) errors: Arc<Mutex<Vec<String>>>,
    pub(crate) port: u16,
    folder: TempDir,
    thread: Option<JoinHandle<()>>,
}

impl<E: Export> Host<E> {
    pub(crate) fn new(limits: Limits, exports: impl IntoIterator<Item = Arc<E>>) -> Self {
        Self::with(limits, exports, |server| server)
    }

    /// A server that `configure` configures before it listens.
    pub(crate) fn with(
        limits: Limits,
        exports: impl IntoIterator<Item = Arc<E>>,
        configure: impl FnOnce(Server<E>) -> Server<E>,
    ) -> Self {
        let mut all = Exports::new();
        for export in exports {
            all.add(export).expect("a sound export");
        }
        let errors = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&errors);
        let server = Arc::new(configure(Server::new(all, limits, move |error| {
            log.lock().expect("not poisoned").push(error.to_string());
        })));
        let folder = tempfile::tempdir().expect("a folder");
        let (path, listening) = (folder.path().join("nbd"), Arc::clone(&server));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
                let tcp = Listener::tcp(any_port).await.expect("a port");
                let unix = Listener::unix(&path).expect("a socket");
                let port = tcp.tcp_address().expect("it is TCP").port();
                ready.send(port).expect("a thread waits");
                let also = Arc::clone(&listening);
                let on_tcp = tokio::spawn(async move { also.listen(tcp).await });
                listening.listen(unix).await;
                on_tcp.await.expect("it does not panic");
            });
        });
        let port = is_ready.recv().expect("the server listens");
        Self {
            server,
            errors,
            port,
            folder,
            thread: Some(thread),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("nbd")
    }

    pub(crate) fn uri(&self, name: &str) -> String {
        format!("nbd+unix:///{name}?socket={}", self.socket().display())
    }

    pub(crate) fn tcp_uri(&self, name: &str) -> String {
        format!("nbd://localhost:{}/{name}", self.port)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn wait_for_an_error(&self) {
        wait_until(|| !self.errors.lock().expect("not poisoned").is_empty());
    }

    /// Waits until the server has ended without [`Host::stop`].
    pub(crate) fn wait_for_the_end(&mut self) {
        let thread = self.thread.take().expect("it was not waited for");
        thread.join().expect("the server ends");
    }

    /// Shuts the server down, waits for its end, and returns the errors.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.join();
        self.errors.lock().expect("not poisoned").clone()
    }

    fn join(&mut self) {
        self.server.shut_down();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends");
        }
    }
}

impl<E: Export> Drop for Host<E> {
    fn drop(&mut self) {
        self.join();
    }
}
