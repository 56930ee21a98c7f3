//! A web server that fails as told, and what the tests share.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "a module of each test, which uses a part of it"
)]

pub mod nbd;
pub mod records;
pub mod server;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use fvd::remote::{Pin, RemoteFile, RemoteOpener as _, Validator};
use fvd::storage::IoBufMut;
use fvd_remote::{Config, Opener, Tuning};
use pollster::block_on;

pub use server::{Fault, Reply, Request, Server};

pub const UNIT: u64 = 256 << 10;

/// Every word says where it is.
pub fn content(len: u64) -> Vec<u8> {
    let words = (0..len.div_ceil(8)).flat_map(|word| (word ^ 0xa5a5_5a5a_0f0f_f0f0).to_le_bytes());
    words.take(len as usize).collect()
}

/// An honest server that has `disk` under every name.
pub fn serve(disk: &Disk) -> Server {
    let disk = disk.clone();
    Server::start(move |request, _| disk.serve(request))
}

/// An object that a server has.
#[derive(Clone)]
pub struct Disk {
    pub data: Arc<Vec<u8>>,
    pub etag: String,
}

impl Disk {
    pub fn new(len: u64) -> Self {
        Self {
            data: Arc::new(content(len)),
            etag: "\"one\"".to_owned(),
        }
    }

    pub fn pin(&self) -> Pin {
        Pin {
            len: self.data.len() as u64,
            validator: Validator::ETag(self.etag.clone()),
        }
    }

    /// What an honest server answers.
    pub fn serve(&self, request: &Request) -> Reply {
        if request.header("if-match").is_some_and(|tag| tag != self.etag) {
            return Reply::status(412);
        }
        self.serve_anyway(request)
    }

    /// As a server that ignores `If-Match`.
    pub fn serve_anyway(&self, request: &Request) -> Reply {
        let len = self.data.len() as u64;
        let Some((first, last)) = request.range() else {
            return Reply::ok(self.data.to_vec()).with("ETag", &self.etag);
        };
        if first >= len {
            return Reply::status(416).with("Content-Range", &format!("bytes */{len}"));
        }
        let last = last.min(len - 1);
        Reply::status(206)
            .with("Content-Range", &format!("bytes {first}-{last}/{len}"))
            .with("ETag", &self.etag)
            .body(self.data[first as usize..=last as usize].to_vec())
    }

    pub fn is_at(&self, found: &[u8], offset: u64) -> bool {
        found == &self.data[offset as usize..offset as usize + found.len()]
    }
}

/// Short pauses, no second requests, and nothing is read ahead: for tests of everything else.
pub fn tuning() -> Tuning {
    Tuning {
        open_timeout: Duration::from_secs(60),
        progress_timeout: Duration::from_secs(60),
        backoff_base: Duration::from_millis(1),
        backoff_cap: Duration::from_millis(5),
        refused_pause: Duration::from_millis(2),
        hedge_default: Duration::from_secs(60),
        hedge_floor: Duration::from_secs(60),
        window: 0,
        ..Tuning::default()
    }
}

pub fn config() -> Config {
    let mut config = Config::new();
    config.tuning = tuning();
    // Tests of manifests set it back. The servers of the others have an answer to every name.
    config.ignore_manifests = true;
    config
}

/// The rules of a configuration file.
pub fn parsed(toml: &str) -> Config {
    let mut config = Config::parse(toml).expect("valid");
    config.tuning = tuning();
    config.ignore_manifests = true;
    config
}

pub fn opener() -> Opener {
    Opener::new(config())
}

pub fn open(opener: &Opener, url: &str, pin: Option<&Pin>) -> fvd::Result<Arc<dyn RemoteFile>> {
    opener.open(url, pin)
}

pub fn read(file: &dyn RemoteFile, offset: u64, len: u64) -> fvd::Result<Vec<u8>> {
    let buf = block_on(file.read(IoBufMut::zeroed(len as usize), offset))?;
    Ok(buf.as_slice().to_vec())
}

/// Reads in a thread, for reads that wait.
pub fn read_aside(file: &Arc<dyn RemoteFile>, offset: u64, len: u64) -> std::thread::JoinHandle<fvd::Result<Vec<u8>>> {
    let file = Arc::clone(file);
    std::thread::spawn(move || read(&*file, offset, len))
}

/// Waits until `condition` holds. Tests have a limit of their own.
pub fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(2));
    }
}
