//! Serves a disk in memory: `memory_server SOCKET BYTES`. Used to measure the cost of the server itself.

use std::env;
use std::io::{Error, Result};
use std::path::Path;
use std::sync::Arc;

use fvd_nbd::server::{Exports, Limits, Listener, MemoryExport, Server};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_, socket, size] = &arguments[..] else {
        return Err(Error::other("usage: memory_server SOCKET BYTES"));
    };
    let size = size.parse().map_err(Error::other)?;
    let mut exports = Exports::new();
    let disk = MemoryExport::new("", size);
    exports.add(Arc::new(disk)).map_err(Error::other)?;
    let server = Server::new(exports, Limits::default(), |error| eprintln!("memory_server: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = Listener::unix(Path::new(socket))?;
        server.listen(listener).await;
        Ok(())
    })
}
