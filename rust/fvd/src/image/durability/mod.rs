//! Durability: commits, checkpoints, flushes and recovery.

pub(super) mod checkpoint;
pub(super) mod commit;
pub(super) mod flush;
pub(super) mod pending;
pub(super) mod recover;
mod sectors;
