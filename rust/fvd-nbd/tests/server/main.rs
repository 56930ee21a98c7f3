//! The server, its clients, and those that are none.

mod clients;
mod host;
mod hostile;
#[path = "../support/options.rs"]
mod options;
mod slow;
mod wire;
