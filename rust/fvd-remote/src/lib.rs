//! Bases that live elsewhere: in object stores (S3, Google Cloud Storage, Azure), on web servers, and on NBD
//! servers.
//!
//! [`Opener`] implements the interface [`fvd::remote::RemoteOpener`] of the engine. Rooms, from the ground up:
//!
//! * [`hooks`]: what a program can decide.
//! * `name`, `identity`: which object.
//! * `config`: what the user has set.
//! * `transport`: requests and answers, connections, the I/O thread.
//! * `redirects`, `answer`: where a request may be sent on to, and what an answer means.
//! * `store`: where an object is, and who signs.
//! * `retry`: when to try again, when to try twice.
//! * `fetch`: brings bytes, whatever the server does.
//! * `nbd`: brings bytes of an export of an NBD server.
//! * `manifest`: what each chunk of a template must be, and templates that are read.
//! * `cache`: units on a disk of this machine, shared by its processes.
//! * `units`: what is kept in memory, who waits for what.
//! * `publish`: writes templates.
//! * `patience`: how long a reader waits.
//! * [`policy`]: decisions without I/O, for models.
//! * `open_options`: what each open decides for itself.
//!
//! `docs/design/remote.md` has the invariants (R1 to R11).

mod answer;
mod cache;
mod clock;
mod config;
mod counters;
mod fault;
mod fetch;
mod file;
#[cfg(any(test, feature = "simulation"))]
#[doc(hidden)]
pub mod fuzz;
pub mod hooks;
mod identity;
mod manifest;
mod name;
mod nbd;
mod open_options;
mod opener;
mod patience;
pub mod policy;
mod publish;
mod redirects;
mod retry;
mod secret;
#[cfg(test)]
mod sim;
mod simulated;
mod store;
mod transport;
mod units;

pub use cache::{CacheCheck, CacheObject, CacheOptions, list_cache, prune_cache, verify_cache};
pub use config::{Config, Outage, Rule, Tuning};
pub use open_options::{OpenOptions, OpenerOf, Redirects};
pub use opener::{Opener, set_memory_limit};
pub use publish::{PublishOptions, Published, publish, publish_profile};
pub use secret::Secret;
