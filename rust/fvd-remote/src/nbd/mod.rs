//! Exports of NBD servers.
//!
//! * `name`: which server, which export.
//! * `connect`: a new connection, up to the export that is open.
//! * `link`: one connection, with any number of requests under way.
//! * `wire`: its task, which reads and writes.
//! * `links`: the connections of an export: when there is another one, and whether it leads to the same export.
//! * `holes`: what is known of zeros.
//! * `export`: reads units and asks for zeros.

mod connect;
mod export;
mod holes;
mod link;
mod links;
mod name;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use connect::Connector;
pub(crate) use export::Export;
pub(crate) use name::Name;
