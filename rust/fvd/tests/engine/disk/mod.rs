//! Disks: requests of a guest, and background work.

mod checkpoint_convoy;
mod copy_on_read;
mod discard;
mod kept_space;
mod model;
mod prefetch;
mod profile;
mod requests;
mod unfinished;
mod write_base;
mod write_base_refused;
