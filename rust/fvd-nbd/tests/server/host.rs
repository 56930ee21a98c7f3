//! A server in a thread of its own, on a socket in a temporary folder.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fvd_nbd::server::{Export, Exports, Limits, Listener, Server};
use tempfile::TempDir;
use tokio::runtime;

pub(crate) struct Host<E: Export> {
    pub(crate) server: Arc<Server<E>>,
    /// What connections ended with that nobody meant to end.
    pub(crate) errors: Arc<Mutex<Vec<String>>>,
    folder: TempDir,
    thread: Option<JoinHandle<()>>,
}

impl<E: Export> Host<E> {
    pub(crate) fn new(limits: Limits, exports: impl IntoIterator<Item = Arc<E>>) -> Self {
        let mut all = Exports::new();
        for export in exports {
            all.add(export).expect("a sound export");
        }
        let errors = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&errors);
        let server = Arc::new(Server::new(all, limits, move |error| {
            log.lock().expect("nobody panics").push(error.to_string());
        }));
        let folder = tempfile::tempdir().expect("a folder");
        let (path, listening) = (folder.path().join("nbd"), Arc::clone(&server));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let listener = Listener::unix(&path).expect("a socket");
                ready.send(()).expect("somebody waits");
                listening.listen(listener).await;
            });
        });
        is_ready.recv().expect("the server listens");
        Self {
            server,
            errors,
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

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn wait_for_an_error(&self) {
        while self.errors.lock().expect("nobody panics").is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Shuts the server down, waits for it, and gives the errors.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.join();
        self.errors.lock().expect("nobody panics").clone()
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
