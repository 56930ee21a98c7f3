//! Tests of the server with existing clients, hand-written clients and hostile clients.

mod certificates;
mod clients;
mod deadlines;
mod disk;
mod host;
mod hostile;
mod lifecycle;
mod limits;
#[path = "../options/mod.rs"]
mod options;
mod polling;
mod programs;
mod reads;
mod simulated;
mod slow;
mod starttls;
mod tls;
mod wire;
