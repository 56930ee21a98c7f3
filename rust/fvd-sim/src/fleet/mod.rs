//! Many machines that boot from one template in a store, in virtual time.
//!
//! A model, not the engine: each machine plays a recorded [`Trace`], and what its reads and its prefetch ask of
//! the store follows the rules of `fvd-remote`. Where these are pure functions, they are the real ones
//! ([`fvd_remote::policy`], `fvd::copy::plan`, `fvd::copy::Window`). `docs/fleet.md` says how well it fits.
//!
//! * [`trace`]: what a machine reads, and when;
//! * [`scenario`]: how many machines, which network, which store;
//! * `store`, `pipe`: the store and the links;
//! * `memory`, `machine`: one process and its guest;
//! * `world`, `flights`: the events;
//! * [`outcome`]: the figures.

mod bits;
mod flights;
mod machine;
mod memory;
mod outcome;
mod pipe;
mod prefetch;
mod reads;
mod scenario;
mod store;
mod trace;
mod world;

pub use outcome::Outcome;
pub use scenario::{How, Scenario, Turned};
pub use trace::{Trace, TraceError, TraceRead};
pub use world::simulate;
