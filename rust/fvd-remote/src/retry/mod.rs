//! When to try again, when to try twice, and what is known of a server. No I/O, and no clock of its own.

mod backoff;
mod health;
mod hedge;
mod pace;

pub use backoff::Backoff;
pub(crate) use health::{Health, Outages};
pub(crate) use hedge::Hedges;
pub use pace::Pace;
