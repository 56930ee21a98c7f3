//! Metadata: bitmap and table, in memory and in place on disk, and what makes changes of them visible.

pub(super) mod bitmap;
pub(super) mod patch;
pub(super) mod publish;
pub(super) mod redo;
pub(super) mod region_cache;
pub(super) mod scan;
mod segment;
pub(super) mod table;
