//! Whatever a server sends, and whatever the files of the host cache hold. The targets of cargo-fuzz (`fuzz/`)
//! call the functions that take bytes; the tests make such bytes from seeds.

mod cache;
mod choices;
mod http;
mod server;
#[cfg(test)]
mod tests;

pub use cache::cache_files;
pub use http::http_answers;
